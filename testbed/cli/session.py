"""The verbs of `testbed boot`: what a person can do with a running machine, a line each."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import itertools
import json
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from testbed.actions.aer import inject
from testbed.actions.hotplug import DEADLINE, add_parts, plug
from testbed.actions.injectors import inject_by_qemu
from testbed.actions.unplug import unplug
from testbed.cli.completion import Vocabulary
from testbed.cli.console_mode import attach_console
from testbed.cli.verb_line import misused, parse_count, parse_header, parse_plug, parse_qmp, split_words
from testbed.guest.drivers import load_drivers
from testbed.guest.pci import addresses
from testbed.machine.console import FILE as CONSOLE_FILE
from testbed.machine.device_tree import device_ids, live_devices
from testbed.machine.qmp_schema import QmpSchema
from testbed.model.aer_name import NAMES, find_error
from testbed.model.catalog import unknown
from testbed.model.device_kind import KINDS, driver_kind, hot_device
from testbed.model.errors import BedError, BrokenError, InputError, QemuCrashedError, QemuLostError
from testbed.model.kernel_log import Crash
from testbed.model.spec import Slot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from testbed.cli.standard_input import StandardInput
    from testbed.guest.guest import Guest
    from testbed.machine.device_tree import LiveDevice
    from testbed.machine.launch import Machine
    from testbed.model.device_kind import DeviceKind
    from testbed.model.errors import GuestCrashedError
    from testbed.model.outcome import Finding
    from testbed.model.pci import Bdf

    Say = Callable[[str], None]

T = TypeVar("T")

#: after these nothing in the guest answers any more
FINAL = (Crash.PANIC, Crash.RESET, Crash.POWER_OFF)
_LOG_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One thing that can be typed."""

    usage: str
    does: str
    run: Callable[[str], Awaitable[None]]


class Session:
    """What a person does with one machine."""

    def __init__(self, machine: Machine, guest: Guest | None, *, say: Say, stdin: StandardInput) -> None:
        self._machine = machine
        self._guest = guest  #: None if it never answered
        self._say = say
        self._stdin = stdin
        self._numbers = itertools.count(1)
        self._schema = QmpSchema(())
        #: whether the person has asked to leave
        self.left = False
        #: whether the terminal is the guest's console now
        self.on_console = False
        self._over = asyncio.Event()  # no guest answers any more
        self._verbs = {verb.usage.partition(" ")[0]: verb for verb in self._all_verbs()}
        for crash in machine.watch.crashes:
            self.hear_crash(crash)

    def _all_verbs(self) -> Sequence[Verb]:
        rows = (
            ("help", "list the verbs", self._help),
            ("sh COMMAND", "run a command in the guest", self._sh),
            ("console", "a shell on the guest's console, kernel messages and all; Ctrl-] leaves it", self._console),
            ("plug DEVICE [on BUS] [PROPERTY=VALUE...]", "add a device, in the first free slot", self._plug),
            ("unplug ID", f"ask for a device's removal and watch for up to {DEADLINE:.0f} guest seconds", self._unplug),
            ("inject ID ERROR [HEADER...]", "inject a PCIe error, and see whether the guest hears of it", self._inject),
            ("qmp COMMAND [JSON|KEY=VALUE...]", "run a QMP command; 'qmp' may be left out", self._qmp),
            ("devices", "the devices that have an id", self._devices),
            ("log [N]", f"the last lines of the kernel's log ({_LOG_LINES})", self._log),
            ("events", "the QMP events so far", self._events),
            ("quit", "end the machine; so does Ctrl-D", self._quit),
        )
        return [Verb(usage=usage, does=does, run=run) for usage, does, run in rows]

    async def start(self) -> None:
        """Learn what can be asked, and let the guest drive its devices."""
        self._schema = await QmpSchema.of(self._machine.qmp)
        if self._guest:
            await load_drivers(self._guest)

    async def vocabulary(self) -> Vocabulary:
        """Return the words that can be typed now."""
        return Vocabulary(
            verbs=list(self._verbs),
            commands=self._schema.commands,
            drivers=self._driver_names(),
            buses=self._machine.spec.buses,
            errors=sorted(NAMES),
            devices=await device_ids(self._machine),
        )

    def _driver_names(self) -> list[str]:
        drivers = self._machine.qemu.drivers
        kinds = (kind.name for kind in KINDS if kind.driver in drivers)
        return sorted({*drivers, *(driver.removesuffix("-pci") for driver in drivers), *kinds})

    def hear_crash(self, crash: GuestCrashedError) -> None:
        """Take notice of a crash: what waits for the guest waits no longer if it was its last."""
        if crash.crash in FINAL:
            self._over.set()

    async def obey(self, line: str) -> None:
        """Do what a line says; a mistake in it is said, only the machine's end is raised."""
        try:
            await self._obey(line.strip())
        except (QemuCrashedError, QemuLostError):
            raise
        except BedError as error:
            explain(error, self._say)

    async def _obey(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name in self._verbs:
            await self._verbs[name].run(rest.strip())
        elif line.startswith("{") or name in self._schema.commands:
            await self._qmp(line)
        elif line and not line.startswith("#"):
            close = difflib.get_close_matches(name, [*self._verbs, *self._schema.commands], n=1)
            guess = f"did you mean {close[0]}? " if close else ""
            raise InputError(f"{name!r} is neither a verb nor a QMP command", hint=f"{guess}'help' lists the verbs")

    # -- the verbs --

    async def _help(self, _: str) -> None:
        width = max(len(verb.usage) for verb in self._verbs.values())
        for verb in self._verbs.values():
            self._say(f"{verb.usage:{width}}  {verb.does}")

    async def _quit(self, _: str) -> None:
        self.left = True

    async def _sh(self, command: str) -> None:
        guest = self._living_guest("sh")
        if not command:
            raise InputError("sh: no command", hint="for example: sh lspci -t")
        self._machine.journal.step("guest", command)
        try:
            running = await guest.shell.start(command)
        except ValueError as error:
            raise InputError(str(error)) from None
        try:
            # a person decides how long it may take
            result = await self._while_it_lives(running.wait(patience=math.inf))
        except asyncio.CancelledError:
            await running.kill()
            raise
        for stream in (result.stdout, result.stderr):
            if stream:
                self._say(stream.decode("utf-8", "replace").rstrip("\n"))
        self._say(f"status {result.status}")

    async def _console(self, _: str) -> None:
        self.on_console = True
        try:
            await attach_console(self._machine, self._answering(), stdin=self._stdin, say=self._say)
        finally:
            self.on_console = False

    async def _plug(self, text: str) -> None:
        order = parse_plug(text, usage=self._verbs["plug"].usage)
        kind = await self._kind(order.driver)
        slot = await self._slot(order.bus)
        parts = hot_device(kind, slot, device_id=f"hot{next(self._numbers)}", properties=order.properties)
        place = f"{parts.device.id} on {slot.bus}"
        guest = self._answering()
        if guest is None:
            await add_parts(self._machine, parts)
            self._say(f"{place}: QEMU has it; no guest answers that could be watched")
            return
        result = await self._while_it_lives(plug(guest, parts))
        self._tell(f"{place}: {result.outcome}", result.findings)
        await self._while_it_lives(load_drivers(guest))

    async def _unplug(self, text: str) -> None:
        device_id = self._one_word("unplug", text)
        known = await device_ids(self._machine)
        if device_id not in known:
            raise unknown("device", device_id, known)
        guest = self._answering()
        if guest is None:
            await self._machine.qmp.execute("device_del", {"id": device_id})
            self._say(f"{device_id}: QEMU was asked; no guest answers that could be watched")
            return
        result = await self._while_it_lives(unplug(guest, device_id))
        self._tell(f"{device_id}: {result.outcome}", result.findings)

    async def _inject(self, text: str) -> None:
        words = split_words(text)
        if len(words) < 2:
            raise misused("inject", text, self._verbs["inject"].usage, example="inject rp1 COMP_TIME")
        header = parse_header(words[2:])
        guest = self._answering()
        if guest is None:
            message = await inject_by_qemu(self._machine, words[0], find_error(words[1]), header=header)
            self._say(f"{message}; no guest answers that could be watched")
            return
        result = await self._while_it_lives(inject(guest, words[0], words[1], header=header))
        self._tell(f"{result.request}: {result.verdict} by {result.route}", result.findings)

    async def _qmp(self, text: str) -> None:
        command, arguments = parse_qmp(text, self._schema.kinds)
        if command == "quit":  # the verb's own way ends the machine in order
            self.left = True
            return
        if command == "device_add":
            arguments = self._typed(arguments)
        value = await self._machine.qmp.execute(command, arguments)
        # the human monitor answers with text
        self._say(value.replace("\r", "").rstrip("\n") if isinstance(value, str) else json.dumps(value, indent=2))

    async def _devices(self, _: str) -> None:
        places = await addresses(self._machine)
        # QEMU keeps them in a hash table
        found = sorted(await live_devices(self._machine), key=lambda each: (str(places.get(each.id, "~")), each.id))
        rows = [("id", "driver", "bus", "address")]
        rows += [(each.id, each.driver, each.bus or "-", str(places.get(each.id, "-"))) for each in found]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            self._say("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())

    async def _log(self, text: str) -> None:
        count = parse_count(text, default=_LOG_LINES)
        if self._guest is None:
            console = (self._machine.rundir / CONSOLE_FILE).read_text("utf-8", "replace")
            lines = [line.strip("\r") for line in console.splitlines()]
        else:
            if guest := self._answering():
                # messages on their way; a guest that hangs has sent its last ones
                with contextlib.suppress(TimeoutError, BedError):
                    async with asyncio.timeout(1):
                        await guest.shell.catch_up()
            lines = [f"{record.reference} {record}" for record in self._guest.shell.log.records]
        for line in deque(lines, maxlen=count):
            self._say(line)

    async def _events(self, _: str) -> None:
        for event in self._machine.qmp.events:
            self._say(f"{event.evidence} {event.name} {json.dumps(dict(event.data))}")

    def _typed(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the properties of a new device as its driver wants them; what QEMU does not know it refuses itself."""
        driver = str(arguments.get("driver"))
        known = self._machine.qemu.properties(driver) if driver in self._machine.qemu.drivers else {}
        return {
            key: self._machine.qemu.typed(driver, key, value) if key in known else value
            for key, value in arguments.items()
        }

    # -- what they share --

    def _answering(self) -> Guest | None:
        """Return the guest, if it can still answer."""
        return None if self._over.is_set() else self._guest

    def _living_guest(self, verb: str) -> Guest:
        guest = self._answering()
        if guest is None:
            raise BrokenError(f"{verb}: no guest answers", hint="QMP answers, and log shows its last words")
        return guest

    async def _while_it_lives(self, answer: Awaitable[T]) -> T:
        """Wait for something of the guest's; raise BrokenError if that ends first."""
        waiting, over = asyncio.ensure_future(answer), asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({waiting, over}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            raise BrokenError("the guest ended before it answered", hint="QMP answers, and log shows its last words")
        finally:
            for each in (waiting, over):
                each.cancel()
            await asyncio.gather(waiting, over, return_exceptions=True)

    def _one_word(self, verb: str, text: str) -> str:
        words = split_words(text)
        if len(words) != 1:
            raise misused(verb, text, self._verbs[verb].usage, example=f"{verb} dev1")
        return words[0]

    def _tell(self, head: str, findings: Sequence[Finding]) -> None:
        self._say(head)
        for finding in findings:
            self._say(f"  {finding.subject}: {finding.observed} ({finding.evidence})")

    async def _kind(self, name: str) -> DeviceKind:
        """Return the kind of this short name or QEMU driver; raise InputError if QEMU has no such driver."""
        drivers = self._machine.qemu.drivers
        known = {kind.name: kind for kind in KINDS}
        driver = known[name].driver if name in known else name
        driver = driver if driver in drivers or f"{driver}-pci" not in drivers else f"{driver}-pci"
        self._machine.qemu.check_driver(driver)
        return known.get(name) or driver_kind(driver, await asyncio.to_thread(self._machine.qemu.properties, driver))

    async def _slot(self, bus: str | None) -> Slot:
        slots = [slot for slot in self._machine.spec.slots if bus in (None, slot.bus)]
        free = first_free(slots, await live_devices(self._machine), await addresses(self._machine))
        if free:
            return free
        if bus is None:
            raise InputError("plug: no slot is free", hint="unplug a device, or name a bus: plug DEVICE on BUS")
        return Slot(bus=bus)


def explain(error: BedError, say: Say) -> None:
    """Say what went wrong, and what to do about it."""
    say(f"error: {error.message}")
    if error.hint:
        say(f"hint: {error.hint}")


def first_free(slots: Sequence[Slot], live: Sequence[LiveDevice], places: dict[str, Bdf]) -> Slot | None:
    """Return the first slot in which no device stands."""
    taken = {(each.bus, places[each.id].device) for each in live if each.id in places}
    return next((slot for slot in slots if (slot.bus, _number(slot)) not in taken), None)


def _number(slot: Slot) -> int:
    return int((slot.addr or "0").partition(".")[0], 16)

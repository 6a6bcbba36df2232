"""Bench: the machine that verbs work on, its guest for as long as that answers, and what the verbs share."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from testbed.guest.drivers import load_drivers
from testbed.machine.device_tree import device_ids
from testbed.machine.qmp_schema import QmpSchema
from testbed.model.aer_name import NAMES
from testbed.model.device_kind import KINDS
from testbed.model.errors import BrokenError
from testbed.model.kernel_log import FINAL
from testbed.verbs.answer import Answer
from testbed.verbs.verb import Argument

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from testbed.guest.guest import Guest
    from testbed.guest.shell import Command
    from testbed.machine.launch import Machine
    from testbed.machine.qmp import Event
    from testbed.model.device_kind import DeviceParts
    from testbed.model.errors import BedError, GuestCrashedError

T = TypeVar("T")

_LAST_WORDS = "QMP answers, and log shows its last words"


@dataclass(frozen=True)
class Silence:
    """Why no guest can answer, and what to do about it."""

    why: str
    hint: str


class AsleepError(BrokenError):
    """Report a guest that went to sleep before it answered."""

    def __init__(self, event: Event) -> None:
        super().__init__("the guest has gone to sleep", hint="system_wakeup wakes it up")
        self.event = event


class Bench:
    """One machine."""

    def __init__(self, machine: Machine, guest: Guest | None, *, patience: float) -> None:
        self.machine = machine
        self.patience = patience  #: wall seconds that a command in the guest may take
        #: the guest that came up, even if it has crashed since; None if none ever did
        self.guest = guest
        #: what QMP commands take; knows none before `start`
        self.schema = QmpSchema(())
        #: whether the guest gets the drivers of what is plugged, and all of them after a reset
        self.drivers = True
        #: the command that put the guest to sleep; it ends once the guest is awake
        self.sleeper: Command | None = None
        #: whether the guest has booted anew since
        self.rebooted = False
        self._numbers = itertools.count(1)
        self._networks = {network.id for network in machine.spec.networks}
        self._events_before = 0

    async def start(self, *, drivers: bool, later: bool) -> None:
        """Ask QEMU for its commands, and let the guest drive its devices unless it is not to, now or later."""
        self.schema = await QmpSchema.of(self.machine.qmp)
        self.drivers = later
        if drivers and self.guest:
            await self.while_it_lives(load_drivers(self.guest))

    async def load_drivers(self, guest: Guest) -> None:
        """Let the guest load drivers for its present devices, unless that is switched off."""
        if self.drivers:
            await self.while_it_lives(load_drivers(guest))

    # -- devices --

    async def new_id(self) -> str:
        """Return an id for a device that was given none."""
        taken = await device_ids(self.machine)
        return next(name for name in (f"hot{number}" for number in self._numbers) if name not in taken)

    async def without_known_backends(self, parts: DeviceParts) -> DeviceParts:
        """Return the parts without a disk or network that is there already: that of a device of this id, unplugged."""
        nodes = await self.machine.qmp.execute_unlogged("query-named-block-nodes", {})
        disk, network = parts.disk, parts.network
        if disk and any(node.get("node-name") == disk.id for node in nodes):
            disk = None
        if network and network.id in self._networks:
            network = None
        return replace(parts, disk=disk, network=network)

    def note_network(self, parts: DeviceParts) -> None:
        """Remember a network that was made: QEMU cannot be asked which there are."""
        if parts.network:
            self._networks.add(parts.network.id)

    # -- events --

    def note_request(self) -> None:
        """Note that a request is made to QEMU now: a wait for an event counts from here."""
        self._events_before = len(self.machine.qmp.events)

    @property
    def latest_events(self) -> Sequence[Event]:
        """Return the events since the latest request."""
        return self.machine.qmp.events[self._events_before :]

    # -- the guest --

    async def silence(self) -> Silence | None:
        """Return why no guest can answer now, without asking it; None if one can."""
        if self.guest is None:
            return Silence("no guest answers: none has booted", _LAST_WORDS)
        if any(crash.crash in FINAL for crash in self.machine.watch.crashes):
            return Silence("no guest answers: it has ended", "system_reset boots it anew, and log shows its last words")
        status = await self.machine.qmp.execute_unlogged("query-status", {})
        if not status["running"]:
            waker = "system_wakeup" if status["status"] == "suspended" else "cont"
            return Silence(f"the machine is stopped ({status['status']})", f"{waker} lets it run again")
        if self.rebooted and not self.guest.shell.greeted:  # one that was resumed has said hello long ago
            return Silence("no guest answers: it is still booting", "wait 5, for example, gives it time")
        return None

    async def answering(self) -> Guest | None:
        """Return the guest, if it can answer now."""
        return None if await self.silence() else self.guest

    async def unwatched(self, said: str) -> Answer:
        """Return the answer of what was done while no guest could be watched."""
        silence = await self.silence()
        return Answer(text=f"{said}; not watched: {silence.why if silence else 'the guest came back only now'}")

    async def living_guest(self, verb: str) -> Guest:
        """Return the guest; raise BrokenError if it cannot answer now."""
        silence = await self.silence()
        if silence or self.guest is None:
            raise BrokenError(f"{verb}: {silence.why if silence else ''}", hint=silence.hint if silence else None)
        return self.guest

    async def while_it_lives(self, answer: Awaitable[T]) -> T:
        """Wait for something of the guest's.

        Raises GuestCrashedError if that ends first, tolerated or not, BrokenError if the machine is stopped, and
        AsleepError if the guest suspends itself to RAM.
        """
        ended: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def end(error: BedError) -> None:
            if not ended.done():
                ended.set_exception(error)

        def hear_crash(crash: GuestCrashedError) -> None:
            if crash.crash in FINAL:
                end(crash)

        def hear_event(event: Event) -> None:
            if event.name == "STOP":
                end(BrokenError("the machine was stopped before the guest answered", hint="cont lets it run again"))
            elif event.name == "SUSPEND":
                end(AsleepError(event))

        waiting = asyncio.ensure_future(answer)
        try:
            with self.machine.watch.follow(hear_crash), self.machine.qmp.follow(hear_event):
                await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
            return (waiting if waiting.done() else ended).result()
        finally:
            for each in (waiting, ended):
                each.cancel()
            await asyncio.gather(waiting, ended, return_exceptions=True)

    # -- words --

    async def words(self) -> Mapping[Argument, Sequence[str]]:
        """Return the current completions of each argument: devices come and go."""
        return {
            Argument.DEVICE: await device_ids(self.machine),
            Argument.DRIVER: self._driver_names(),
            Argument.ON: ("on",),
            Argument.BUS: self.machine.spec.buses,
            Argument.ERROR: sorted(NAMES),
            Argument.COMMAND: self.schema.commands,
            Argument.EVENT: self.schema.events,
        }

    def _driver_names(self) -> list[str]:
        drivers = self.machine.qemu.drivers
        kinds = (kind.name for kind in KINDS if kind.driver in drivers)
        return sorted({*drivers, *(driver.removesuffix("-pci") for driver in drivers), *kinds})

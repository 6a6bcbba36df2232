"""Attempt: an access to a device register under way, made by /bin/mmio-probe, that a model may hold."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.access_place import PROGRAM, check_stall, find_place
from testbed.actions.probe_result import fault_name, read_timing
from testbed.actions.register import locate
from testbed.machine.mmio_trace import traced
from testbed.machine.stall import stalling
from testbed.model.errors import UnsupportedError
from testbed.model.stall import Stall, StallKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from testbed.actions.probe_result import Timing
    from testbed.actions.register import Access, Register
    from testbed.guest.guest import Guest
    from testbed.guest.shell import Command, Result
    from testbed.machine.mmio_trace import MmioTrace
    from testbed.machine.stall import Staller
    from testbed.machine.stall_place import ExitLoop, Passage, Place, PlaceRecord
    from testbed.model.mmio_record import MmioRecord
    from testbed.model.pci import Bdf

#: guest seconds of patience for each access that a count adds; the slowest, by the kernel under TCG, takes 0.1 ms
EACH_SECONDS = 0.001
#: wall seconds in which a killed process ends, and one that was let through besides; then the machine's end is left to
#: end it
_KILL_SECONDS, _RELEASE_SECONDS = 3.0, 2.0
NO_STALL = Stall(kind=StallKind.OFF)


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What came of an access."""

    register: Register
    timing: Timing | None  #: None if it did not complete
    fault: str  #: the signal that ended the process: SIGBUS; empty if none did
    seen: tuple[MmioRecord, ...]  #: accesses to the register that a device got
    seen_evidence: tuple[str, ...]
    loop: ExitLoop | None  #: of a model that held it
    passage: Passage | None  #: what a model let through
    guest_seconds: float | None  #: until it completed, or was given up; None if the guest could not tell
    modelled: str  #: the model that stood at the access; empty if none did
    evidence: str

    @property
    def completed(self) -> bool:
        """Return whether the access completed."""
        return self.timing is not None


class Attempt:
    """An access under way; made by `trying`."""

    def __init__(
        self, guest: Guest, register: Register, trace: MmioTrace, *, stall: Stall, place: Place | None
    ) -> None:
        self._guest = guest
        self._trace = trace
        self._stall = stall
        self._place = place
        self._command: Command | None = None
        self._result: Result | None = None
        self._in_time = False
        self._timer: asyncio.Task[None] | None = None
        self._first_record = 0
        self._started = 0.0
        self._seconds: float | None = 0.0
        #: what answers the vCPUs that come to places, if a model stands at any
        self.staller: Staller | None = None
        #: accesses that are made besides, by `beside`
        self.others: dict[Access, Attempt] = {}
        #: where the access goes
        self.register = register

    def beside(self, access: Access) -> Attempt:
        """Return one of the accesses announced as `beside`; the same model covers it."""
        return self.others[access]

    @property
    def modelled(self) -> str:
        """Return what the access's model does; empty if it has none."""
        return self._stall.words if self._place else ""

    async def start(self, *, cpu: int | None = None) -> None:
        """Start the program that makes the access, on one CPU if it must be that."""
        self._started = self._guest.shell.seconds
        self._trace.read()
        self._first_record = len(self._trace.records)
        line = f"{PROGRAM} {self.register.arguments}"
        if self._place:
            words = "the test bed modelled this access, this script does not"
            self._guest.machine.journal.step("say", f"{words}: {self._stall.words}")
        self._guest.machine.journal.step("guest", line)
        pinned = "" if cpu is None else f"taskset {1 << cpu:x} "
        self._command = await self._guest.shell.start(f"exec {pinned}{line}")

    def on_hold(self) -> None:
        """Note that the access is held now."""
        if self._stall.kind is StallKind.FOR:
            self._timer = asyncio.create_task(self._release_later())

    async def _release_later(self) -> None:
        await self._guest.shell.sleep(self._stall.seconds)
        self._release()

    async def watch(self, seconds: float) -> bool:
        """Wait up to `seconds` guest seconds for its end; return whether that came.

        A kernel that is held cannot tell the time: then it is waited until the access has been begun often enough.
        """
        ending = asyncio.create_task(self._running.wait(patience=patience(seconds)))
        over = asyncio.create_task(self._guest.shell.sleep(seconds + EACH_SECONDS * self.register.access.count))
        deaf = [asyncio.create_task(self.staller.kernel_held.wait())] if self.staller else []
        try:
            await asyncio.wait({ending, over, *deaf}, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                self._take(ending.result())
            elif over.done():
                over.result()  # raises what ended the machine
                self._seconds = await self._guest.shell.clock() - self._started
            else:
                self._seconds = None
            return self._in_time
        finally:
            for task in (ending, over, *deaf):
                task.cancel()
            await asyncio.gather(ending, over, *deaf, return_exceptions=True)

    @property
    def deaf(self) -> bool:
        """Return whether nothing can be asked of the guest until the access is given up: its kernel is held."""
        return self.staller is not None and self.staller.kernel_held.is_set()

    async def kill(self) -> None:
        """Kill the program; whether it ends by that is another matter."""
        await self._running.kill()

    @property
    def records(self) -> tuple[MmioRecord, ...]:
        """Return the accesses to the register that a device got since it was started, whoever made them."""
        return tuple(record for record, _ in self._seen())

    def _seen(self) -> list[tuple[MmioRecord, str]]:
        self._trace.read()
        pairs = list(zip(self._trace.records, self._trace.evidence, strict=True))[self._first_record :]
        return [(record, evidence) for record, evidence in pairs if self.register.wants(record)]

    async def end(self) -> Probed:
        """Return what came of it; kill it if it still runs."""
        seen = self._seen()
        await self.give_up()
        result = self._result if self._in_time else None
        return Probed(
            register=self.register,
            timing=read_timing(result, self.register) if result else None,
            fault=fault_name(result) if result else "",
            seen=tuple(record for record, _ in seen),
            seen_evidence=tuple(evidence for _, evidence in seen),
            loop=self._record.loop if self._record else None,
            passage=self._record.passage if self._record else None,
            guest_seconds=None if self._seconds is None else round(self._seconds, 3),
            modelled=self.modelled,
            evidence=self._result.evidence if self._result else "shell.jsonl",
        )

    async def give_up(self) -> None:
        """Kill the program if it still runs; let the access through if a signal does not reach it."""
        if self._timer:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)
        if self._command is None or self._result is not None:
            return
        if self.deaf:
            self._release()
        await self.kill()
        self._result = await self._ended_within(_KILL_SECONDS)
        if self._result is None and self.staller:
            self._release()
            self._result = await self._ended_within(_RELEASE_SECONDS)

    def _release(self) -> None:
        if self.staller and self._place:
            self.staller.release(self._place)

    @property
    def _record(self) -> PlaceRecord | None:
        return self.staller.record(self._place) if self.staller and self._place else None

    async def _ended_within(self, seconds: float) -> Result | None:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._running.wait(), seconds)
        return None

    def _take(self, result: Result) -> None:
        self._result = result
        self._in_time = True
        self._seconds = result.ended - self._started

    @property
    def _running(self) -> Command:
        if self._command is None:
            raise RuntimeError("an attempt begins with start()")
        return self._command


@contextlib.asynccontextmanager
async def trying(
    guest: Guest, address: Bdf, access: Access, *, stall: Stall = NO_STALL, beside: Sequence[Access] = ()
) -> AsyncIterator[Attempt]:
    """Make ready for an access; one that was started and has not completed is killed on leaving.

    `beside` are accesses that will be made meanwhile: the model of an erratum stands at them too, any other at the
    access alone. Raises InputError where no model is possible, UnsupportedError where something is lacking for it.
    """
    register = await locate(guest, address, access)
    registers = [register, *[await locate(guest, address, other) for other in beside]]
    check_stall(stall, register)
    if stall.on and guest.machine.warped:
        raise UnsupportedError("a stall cannot be modelled in warped time", hint="--time real")
    places = await _places(guest, registers, stall)
    async with contextlib.AsyncExitStack() as stack:
        trace = await stack.enter_async_context(
            traced(guest.machine, lambda record: any(each.wants(record) for each in registers))
        )
        attempts = [
            Attempt(guest, each, trace, stall=stall, place=place) for each, place in zip(registers, places, strict=True)
        ]
        standing = {place.address: place for place in places if place}
        if standing:
            staller = await stack.enter_async_context(
                stalling(guest.machine, stall, list(standing.values()), on_hold=attempts[0].on_hold)
            )
            for attempt in attempts:
                attempt.staller = staller
        attempts[0].others = dict(zip(beside, attempts[1:], strict=True))
        for attempt in attempts:
            stack.push_async_callback(attempt.give_up)
        yield attempts[0]


async def _places(guest: Guest, registers: Sequence[Register], stall: Stall) -> list[Place | None]:
    """Return the place of each register's access; None where the model does not apply."""
    places: list[Place | None] = []
    for number, register in enumerate(registers):
        stands = stall.concerns(register.access.direction) and (number == 0 or stall.is_erratum)
        places.append(await find_place(guest, register) if stands else None)
    return places


def patience(seconds: float) -> float:
    """Return wall seconds for so many guest seconds of a guest that a model slows down."""
    return 120.0 + 30 * seconds

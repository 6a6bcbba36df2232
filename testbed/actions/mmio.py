"""Access device registers of a guest, by a user process, by its kernel, by ports and in configuration space.

The access is made by /bin/mmio-probe (guest-images/probe.c); every instruction that can make one has an address of its
own, at which a model can hold it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.register import Access, Register, Route, locate
from testbed.machine.mmio_trace import traced
from testbed.machine.stall import Place, stalling
from testbed.model.errors import BrokenError, InputError, UnsupportedError
from testbed.model.stall import Stall, StallKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.guest.guest import Guest
    from testbed.guest.shell import Command, Result
    from testbed.machine.mmio_trace import MmioTrace
    from testbed.machine.stall import ExitLoop, Staller
    from testbed.model.mmio_record import MmioRecord
    from testbed.model.pci import Bdf

PROGRAM = "mmio-probe"
#: guest seconds an access may take
ACCESS_SECONDS = 2.0
#: guest seconds of patience for each access that a count adds; the slowest, by the kernel under TCG, takes 0.1 ms
_EACH_SECONDS = 0.001
#: wall seconds in which a killed process ends, and one that was let through besides; then the machine's end is left to
#: end it
_KILL_SECONDS, _RELEASE_SECONDS = 3.0, 2.0
_NO_MODEL = Stall(kind=StallKind.OFF)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What completed accesses took, and what they read."""

    first: int
    last: int
    count: int
    min_ns: int
    mean_ns: int
    max_ns: int


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What came of an access."""

    register: Register
    timing: Timing | None  #: None if it did not complete
    fault: str  #: the signal that ended the process: SIGBUS; empty if none did
    seen: tuple[MmioRecord, ...]  #: accesses to the register that a device got
    seen_evidence: tuple[str, ...]
    loop: ExitLoop | None  #: of a model that held it
    guest_seconds: float  #: until it completed, or was given up
    modelled: str  #: what was modelled; empty if nothing was
    evidence: str

    @property
    def completed(self) -> bool:
        """Return whether the access completed."""
        return self.timing is not None


async def enable(guest: Guest, address: Bdf) -> None:
    """Let a function without a driver decode its BARs."""
    await guest.act(f"echo 1 > {address.sysfs}/enable")


async def unbind(guest: Guest, address: Bdf) -> None:
    """Take the driver away from a function, if it has one."""
    await guest.act(f"[ ! -e {address.sysfs}/driver ] || echo {address} > {address.sysfs}/driver/unbind")


async def keep_to_first_cpu(guest: Guest) -> None:
    """Keep the guest's init, its commands and its interrupts on CPU 0: they go on if another one waits for a device."""
    await guest.act("taskset -p 1 1; for irq in /proc/irq/*/smp_affinity; do echo 1 2>/dev/null > $irq; done; true")


async def probe(
    guest: Guest, address: Bdf, access: Access, *, stall: Stall = _NO_MODEL, seconds: float = ACCESS_SECONDS
) -> Probed:
    """Make an access and watch for up to `seconds` guest seconds; one that does not complete is killed.

    Raises InputError if there is no such register or route, UnsupportedError where something is lacking for it.
    """
    async with trying(guest, address, access, stall=stall) as attempt:
        await attempt.start()
        await attempt.watch(seconds)
        return await attempt.end()


async def complete(guest: Guest, address: Bdf, access: Access) -> tuple[Timing, str]:
    """Make an access that nobody holds, and return what it took, with its line in shell.jsonl.

    Raises InputError if there is no such register or route, BrokenError if the process was killed.
    """
    register = await locate(guest, address, access)
    line = f"{PROGRAM} {register.arguments}"
    guest.machine.journal.step("guest", line)
    result = await guest.shell.run(line, patience=_patience(_EACH_SECONDS * access.count))
    timing = _timing(result, register)
    if timing is None:
        raise BrokenError(f"probe: {access}: ended by {_fault(result)}")
    return timing, result.evidence


@contextlib.asynccontextmanager
async def trying(guest: Guest, address: Bdf, access: Access, *, stall: Stall = _NO_MODEL) -> AsyncIterator[Attempt]:
    """Make ready for an access; one that was started and has not completed is killed on leaving."""
    register = await locate(guest, address, access)
    if stall.on and guest.machine.warped:
        raise UnsupportedError("a stall cannot be modelled in warped time", hint="--time real")
    held = stall.concerns(access.direction) and access.route is Route.USER
    async with contextlib.AsyncExitStack() as stack:
        trace = await stack.enter_async_context(traced(guest.machine, register.wants))
        attempt = Attempt(guest, register, trace, stall=stall)
        if held:
            place = await _instruction(guest, access)
            begin = attempt.held
            attempt.staller = await stack.enter_async_context(stalling(guest.machine, stall, place, on_hold=begin))
        stack.push_async_callback(attempt.give_up)
        yield attempt


class Attempt:
    """An access under way; made by `trying`."""

    def __init__(self, guest: Guest, register: Register, trace: MmioTrace, *, stall: Stall) -> None:
        self._guest = guest
        self._trace = trace
        self._stall = stall
        self._command: Command | None = None
        self._result: Result | None = None
        self._timer: asyncio.Task[None] | None = None
        self._killed = False
        self._started = 0.0
        self._ended = 0.0
        #: where the access goes
        self.register = register
        #: what holds it, if anything does
        self.staller: Staller | None = None

    async def start(self, *, cpu: int | None = None) -> None:
        """Start the program that makes the access, on one CPU if it must be that."""
        self._started = self._ended = self._guest.shell.seconds
        line = f"{PROGRAM} {self.register.arguments}"
        if self.staller:
            told = "the test bed held this access by a model, and this script does not"
            self._guest.machine.journal.step("say", f"{told}: {self._stall.words}")
        self._guest.machine.journal.step("guest", line)
        pinned = "" if cpu is None else f"taskset {1 << cpu:x} "
        self._command = await self._guest.shell.start(f"exec {pinned}{line}")

    def held(self) -> None:
        """Note that the access is held now."""
        if self._stall.kind is StallKind.FOR:
            self._timer = asyncio.create_task(self._release_later())

    async def _release_later(self) -> None:
        await self._guest.shell.sleep(self._stall.seconds)
        if self.staller:
            self.staller.release()

    async def watch(self, seconds: float) -> bool:
        """Wait up to `seconds` guest seconds for its end; return whether that came."""
        ending = asyncio.create_task(self._running.wait(patience=_patience(seconds)))
        over = asyncio.create_task(self._guest.shell.sleep(seconds + _EACH_SECONDS * self.register.access.count))
        try:
            await asyncio.wait({ending, over}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                over.result()  # raises what ended the machine
                self._ended = await self._guest.shell.clock()
                return False
            self._take(ending.result())
            return True
        finally:
            for task in (ending, over):
                task.cancel()
            await asyncio.gather(ending, over, return_exceptions=True)

    async def kill(self) -> None:
        """Kill the program; whether it ends by that is another matter."""
        self._killed = True
        await self._running.kill()

    @property
    def records(self) -> tuple[MmioRecord, ...]:
        """Return the accesses to the register that a device got so far, whoever made them."""
        self._trace.read()
        return tuple(self._trace.records)

    async def end(self) -> Probed:
        """Return what came of it; kill it if it still runs."""
        seen = self.records
        evidence = tuple(self._trace.evidence)
        await self.give_up()
        result = None if self._killed else self._result
        return Probed(
            register=self.register,
            timing=_timing(result, self.register) if result else None,
            fault=_fault(result) if result else "",
            seen=seen,
            seen_evidence=evidence,
            loop=self.staller.loop if self.staller else None,
            guest_seconds=round(self._ended - self._started, 3),
            modelled=self._stall.words,
            evidence=self._result.evidence if self._result else "shell.jsonl",
        )

    async def give_up(self) -> None:
        """Kill the program if it still runs; let the access through if a signal does not reach it."""
        if self._timer:
            self._timer.cancel()
            await asyncio.gather(self._timer, return_exceptions=True)
        if self._command is None or self._result is not None:
            return
        await self.kill()
        self._result = await self._ended_within(_KILL_SECONDS)
        if self._result is None and self.staller:
            self.staller.release()
            self._result = await self._ended_within(_RELEASE_SECONDS)

    async def _ended_within(self, seconds: float) -> Result | None:
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._running.wait(), seconds)
        return None

    def _take(self, result: Result) -> None:
        self._result = result
        self._ended = result.ended

    @property
    def _running(self) -> Command:
        if self._command is None:
            raise RuntimeError("an attempt begins with start()")
        return self._command


async def _instruction(guest: Guest, access: Access) -> Place:
    """Return where the program's instruction of a user access stands."""
    text = await guest.shell.succeed(f"{PROGRAM} addresses")
    rows = (line.split() for line in text.splitlines())
    places = {name: Place(address=int(address, 16), pause=int(pause, 16)) for name, address, pause in rows}
    return places[f"user_{access.direction}{access.width}"]


def _timing(result: Result, register: Register) -> Timing | None:
    """Return what the program printed; raise InputError or BrokenError with what kept it from the access."""
    if result.status < 0:
        return None
    if result.status:
        raise _refused(result, register)
    pairs = dict(word.split("=", 1) for word in result.text.split())
    return Timing(**{key: int(text, 0) for key, text in pairs.items()})


def _refused(result: Result, register: Register) -> InputError | BrokenError:
    """Build the error of a program that could not make its access."""
    step, _, number = result.error.partition(" failed, errno ")
    code = int(number) if number.isdecimal() else 0
    words = f"{register.access}: {step}: {errno.errorcode.get(code, number or result.error)}"
    route = register.access.route
    if (step, code) in (("mmap", errno.EINVAL), ("open", errno.EBUSY), ("read", errno.EPERM), ("write", errno.EPERM)):
        why = "the BAR is in use by a driver, and the kernel keeps others from it (CONFIG_IO_STRICT_DEVMEM)"
        return InputError(
            f"{words}: {why}", hint="take the driver away: echo ADDRESS > …/driver/unbind; or iomem=relaxed"
        )
    if route is Route.DEVMEM and code == errno.EFAULT:
        why = "/dev/mem has read and write only below the end of memory"
        return InputError(f"{words}: {why}", hint="use --route kernel, or more memory: -p memory=6144")
    return BrokenError(f"probe: {words}")


def _fault(result: Result) -> str:
    return signal.Signals(-result.status).name if result.status < 0 else ""


def _patience(seconds: float) -> float:
    """Return wall seconds for so many guest seconds of a guest that a model slows down."""
    return 120.0 + 30 * seconds

"""Staller: makes accesses of a running guest not complete, by QEMU's gdb stub.

A breakpoint stands on the instruction. Whoever comes there stops; the model looks at the privilege level and CR4 of
that vCPU, and either lets it execute the instruction, or has it begin the instruction again, as a hypervisor does that
cannot emulate an access. Between two such beginnings the guest takes its interrupts and runs its other processes.

Each stop takes the host a millisecond or two, in which the guest does not live, and QEMU forgets all that it has
translated (gdbstub.c, tb_flush at a stop). So a vCPU is sent back not to the instruction but to a pause before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.machine.gdbstub import STOP_EVENTS, GdbStub, open_stub
from testbed.model.errors import ChannelError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from testbed.machine.gdb_packet import Registers
    from testbed.machine.launch import Machine
    from testbed.model.stall import Stall

#: GDB's number of a trap: a breakpoint, or a step
_TRAP = 5
#: wall seconds in which a machine that is asked to stop does
_END_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """An instruction that can be held."""

    address: int
    pause: int  #: who goes on here comes to `address` again, with its operands unchanged; may be `address` itself


@dataclass(frozen=True, kw_only=True)
class ExitLoop:
    """The place at which a vCPU began the same instruction again and again."""

    vcpu: int
    rip: int
    gva: int | None  #: virtual address of the register, from the instruction's operand
    gpa: int | None  #: physical, as QEMU translated it; None if it could not
    executions: int  #: how often it was begun and not completed
    wall_seconds: float  #: from the first to the last
    registers: Registers  #: of the vCPU at the first
    monitor: str  #: the words of the human monitor's `info registers` then
    evidence: str  #: their line in qmp.jsonl

    @property
    def rate(self) -> float:
        """Return how often it was begun in a wall second."""
        return self.executions / self.wall_seconds if self.wall_seconds else 0.0


@dataclass(kw_only=True)
class _Held:
    """What is known of the accesses held so far."""

    vcpu: int = 0
    first: float = 0.0
    last: float = 0.0
    registers: Registers | None = None
    monitor: str = ""
    evidence: str = ""
    gpa: int | None = None
    executions: int = 0


#: bytes of an x86 instruction
_LONGEST_INSTRUCTION = 15


class Staller:
    """Holds accesses of one machine for as long as it is entered; made by `stalling`."""

    def __init__(
        self, machine: Machine, stub: GdbStub, model: Stall, place: Place, on_hold: Callable[[], None]
    ) -> None:
        self._machine = machine
        self._stub = stub
        self._model = model
        self._place = place
        self._on_hold = on_hold
        self._held = _Held()
        #: accesses that were let through
        self.completed = 0
        #: whether every access is let through from now on
        self.released = False

    @property
    def loop(self) -> ExitLoop | None:
        """Return the loop seen so far; None if every access completed."""
        held = self._held
        if held.registers is None:
            return None
        return ExitLoop(
            vcpu=held.vcpu,
            rip=held.registers.rip,
            gva=held.registers.values.get("rdi"),
            gpa=held.gpa,
            executions=held.executions,
            wall_seconds=held.last - held.first,
            registers=held.registers,
            monitor=held.monitor,
            evidence=held.evidence,
        )

    def release(self) -> None:
        """Let every access through from now on, the one that is held first of all."""
        self.released = True

    async def serve(self) -> None:
        """Answer stops until the machine is interrupted, which leaves it standing still."""
        while True:
            stop = await self._stub.stopped()
            if stop.signal != _TRAP:
                return
            registers = await self._stub.registers(stop.thread)
            if self._holds(registers):
                await self._hold(stop.thread, registers)
            else:
                await self._let_through(stop.thread)
            await self._stub.go_on()

    def _holds(self, registers: Registers) -> bool:
        if self.released:
            return False
        return self._model.holds(cpl=registers.cpl, smap=registers.smap, completed=self.completed)

    async def _hold(self, thread: int, registers: Registers) -> None:
        held = self._held
        if held.registers is None:
            held.vcpu, held.registers, held.first = thread - 1, registers, time.monotonic()
            held.monitor = await self._monitor("info registers", held.vcpu)
            held.evidence = self._machine.qmp.last_reply
            held.gpa = _address(await self._monitor(f"gva2gpa {registers.values['rdi']:#x}", held.vcpu))
            self._tell("held", f"access at rip {registers.rip:#x}, gpa {held.gpa or 0:#x} does not complete (modelled)")
            self._on_hold()
        held.executions += 1
        held.last = time.monotonic()
        await self._stub.send_to(thread, self._place.pause)

    def end(self) -> None:
        """Note how often an access was begun, if one was held."""
        if loop := self.loop:
            words = f"let go: rip {loop.rip:#x} was begun {loop.executions} times in {loop.wall_seconds:.3f} s"
            self._tell("held", f"{words}, {loop.rate:.0f}/s (modelled)")

    def _tell(self, kind: str, words: str) -> None:
        self._machine.journal.mmio.write(kind, {"vcpu": self._held.vcpu, "text": words})

    async def _let_through(self, thread: int) -> None:
        await self._stub.remove(self._place.address)
        await self._stub.step(thread)
        await self._stub.insert(self._place.address)
        # an exception that came first is no access: the instruction is begun again after it
        passed = (await self._stub.registers(thread)).rip - self._place.address
        self.completed += 0 < passed <= _LONGEST_INSTRUCTION

    async def _monitor(self, line: str, vcpu: int) -> str:
        arguments = {"command-line": line, "cpu-index": vcpu}
        return str(await self._machine.qmp.manage("human-monitor-command", arguments)).strip()


@contextlib.asynccontextmanager
async def stalling(
    machine: Machine, model: Stall, place: Place, *, on_hold: Callable[[], None] = lambda: None
) -> AsyncIterator[Staller]:
    """Hold the accesses of an instruction, as the model says; let go of all of them on leaving.

    `on_hold` is called when the first access is held. The machine must run, and its time must not be warped.
    """
    with machine.qmp.left_out(*STOP_EVENTS):
        async with open_stub(machine.qmp, machine.attach) as stub:
            await stub.greet()
            await stub.insert(place.address)
            staller = Staller(machine, stub, model, place, on_hold)
            await stub.go_on()
            serving = asyncio.create_task(machine.watch.during(staller.serve()))
            serving.add_done_callback(lambda task: _tell(machine, task))
            try:
                yield staller
            finally:
                staller.release()
                staller.end()
                await _end(stub, serving, place.address)


def _tell(machine: Machine, serving: asyncio.Task[None]) -> None:
    """Let those who wait for the machine know that nobody answers its stops any more."""
    if not serving.cancelled() and isinstance(error := serving.exception(), ChannelError):
        machine.watch.fail(error)


async def _end(stub: GdbStub, serving: asyncio.Task[None], address: int) -> None:
    """Stop the machine, take the breakpoint away and let it run; a machine that has ended needs none of it."""
    with contextlib.suppress(Exception):
        await stub.interrupt()
        await asyncio.wait({serving}, timeout=_END_SECONDS)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    with contextlib.suppress(ChannelError, TimeoutError):
        await stub.remove(address)
        await stub.detach()


def _address(said: str) -> int | None:
    """Return the address in the human monitor's `gpa: 0xfe000014`; None if it says that there is none."""
    name, _, number = said.partition(": ")
    return int(number, 16) if name == "gpa" and number.startswith("0x") else None

"""Staller: makes accesses of a running guest not complete, by QEMU's gdb stub.

Breakpoints stand on the instructions that make accesses. Whoever comes there stops; the model looks at the privilege
level and CR4 of that vCPU, and either lets it execute the instruction, or has it begin the instruction again, as a
hypervisor does that cannot emulate an access. Between two such beginnings the guest takes its interrupts and runs its
other processes; but where it is the kernel's access that is held, that CPU's processes wait.

Each stop takes the host a millisecond or two, in which the guest does not live, and QEMU forgets all that it has
translated (gdbstub.c, tb_flush at a stop). So a process is sent back not to the instruction but to a pause before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from testbed.machine.cpu_identity import cpu_identity
from testbed.machine.gdbstub import STOP_EVENTS, GdbStub, open_stub
from testbed.machine.stall_place import Arrival, ExitLoop, Passage, PlaceRecord
from testbed.model.errors import ChannelError
from testbed.model.mmio_record import Space
from testbed.model.stall import Circumstances

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from testbed.machine.gdb_packet import Registers
    from testbed.machine.launch import Machine
    from testbed.machine.stall_place import Place
    from testbed.model.cpu_identity import CpuIdentity
    from testbed.model.stall import Stall

#: GDB's number of a trap: a breakpoint, or a step
_TRAP = 5
#: wall seconds within which a machine must obey `stop`
_END_SECONDS = 2.0
#: bytes of an x86 instruction
_LONGEST_INSTRUCTION = 15
#: executions after which a kernel's access counts as held: its guest cannot tell the time meanwhile
_KERNEL_EXECUTIONS = 500


class Staller:
    """Holds accesses of one machine for as long as it is entered; made by `stalling`."""

    def __init__(
        self,
        machine: Machine,
        stub: GdbStub,
        model: Stall,
        places: Sequence[Place],
        *,
        cpu: CpuIdentity,
        on_hold: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._stub = stub
        self._model = model
        self._cpu = cpu
        self._on_hold = on_hold
        self._records = {place.address: PlaceRecord(place=place) for place in places}
        #: set once a kernel's access is held, of whose guest nothing can be asked until it is released
        self.kernel_held = asyncio.Event()

    def record(self, place: Place) -> PlaceRecord:
        """Return what came of the accesses at a place so far."""
        return self._records[place.address]

    def release(self, place: Place) -> None:
        """Let every access at a place through from now on, the one that is held first of all."""
        self._records[place.address].released = True
        self.kernel_held.clear()

    def release_all(self) -> None:
        """Let every access through from now on."""
        for record in self._records.values():
            record.released = True

    async def serve(self) -> None:
        """Answer stops until the machine is interrupted, which leaves it standing still."""
        while True:
            stop = await self._stub.stopped()
            if stop.signal != _TRAP:
                return
            registers = await self._stub.registers(stop.thread)
            if record := self._records.get(registers.rip):
                await self._answer(stop.thread, registers, record)
            await self._stub.go_on()

    async def _answer(self, thread: int, registers: Registers, record: PlaceRecord) -> None:
        arrival = await self._arrival(thread, registers, record)
        concerned = record.place.within is None or arrival.gpa in record.place.within
        if not concerned or record.released:
            await self._step_over(thread, record.place)
        elif self._model.holds(completed=record.completed, circumstances=arrival.circumstances):
            await self._hold(thread, arrival, record)
        elif await self._step_over(thread, record.place):
            self._note_passage(arrival, record)

    async def _arrival(self, thread: int, registers: Registers, record: PlaceRecord) -> Arrival:
        place = record.place
        circumstances = Circumstances(space=place.space, cpl=registers.cpl, smap=registers.smap, cpu=self._cpu)
        gpa = None
        # asking the monitor each time would slow down a guest that is held
        if place.space is Space.MMIO and (place.within or not (record.loop or record.passage)):
            gpa = _address(await self._monitor(f"gva2gpa {registers.values[place.operand]:#x}", thread - 1))
        return Arrival(vcpu=thread - 1, registers=registers, circumstances=circumstances, gpa=gpa)

    async def _hold(self, thread: int, arrival: Arrival, record: PlaceRecord) -> None:
        loop = record.loop or await self._begin_loop(arrival)
        executions, seconds = loop.executions + 1, time.monotonic() - loop.begun
        record.loop = replace(loop, executions=executions, wall_seconds=seconds)
        if arrival.circumstances.cpl == 0 and executions >= _KERNEL_EXECUTIONS:
            self.kernel_held.set()
        await self._stub.send_to(thread, record.place.pause)

    async def _begin_loop(self, arrival: Arrival) -> ExitLoop:
        monitor = await self._monitor("info registers", arrival.vcpu)
        evidence = self._machine.qmp.last_reply
        loop = ExitLoop(
            arrival=arrival, executions=0, begun=time.monotonic(), wall_seconds=0, monitor=monitor, evidence=evidence
        )
        self._write("held", arrival.vcpu, f"{loop.where} does not complete (modelled)")
        self._on_hold()
        return loop

    def _note_passage(self, arrival: Arrival, record: PlaceRecord) -> None:
        if record.passage:
            record.passage = replace(record.passage, count=record.completed + 1)
            return
        words = f"the model lets {record.place.name} through: {arrival.circumstances}"
        record.passage = Passage(arrival=arrival, count=1, evidence=self._write("passed", arrival.vcpu, words))

    def end(self) -> None:
        """Note how often each access was begun that was held."""
        for record in self._records.values():
            if loop := record.loop:
                words = f"let go: {loop.where} was begun {loop.executions} times in {loop.wall_seconds:.3f} s"
                self._write("held", loop.arrival.vcpu, f"{words}, {loop.rate:.0f}/s (modelled)")

    def _write(self, kind: str, vcpu: int, words: str) -> str:
        return self._machine.journal.mmio.write(kind, {"vcpu": vcpu, "text": words})

    async def _step_over(self, thread: int, place: Place) -> bool:
        """Have a vCPU execute its instruction; return whether it did.

        An exception that comes first is no access: the instruction is begun again after it.
        """
        await self._stub.remove(place.address)
        await self._stub.step(thread)
        await self._stub.insert(place.address)
        return 0 < (await self._stub.registers(thread)).rip - place.address <= _LONGEST_INSTRUCTION

    async def _monitor(self, line: str, vcpu: int) -> str:
        arguments = {"command-line": line, "cpu-index": vcpu}
        return str(await self._machine.qmp.execute_unrepeated("human-monitor-command", arguments)).strip()


@contextlib.asynccontextmanager
async def stalling(
    machine: Machine, model: Stall, places: Sequence[Place], *, on_hold: Callable[[], None] = lambda: None
) -> AsyncIterator[Staller]:
    """Hold the accesses of some instructions, as the model says; let go of all of them on leaving.

    `on_hold` is called when the first access of a place is held. The machine must run, and its time must not be warped.
    """
    cpu = await cpu_identity(machine.qmp)
    with machine.qmp.left_out(*STOP_EVENTS):
        async with open_stub(machine.qmp, machine.attach) as stub:
            await stub.greet()
            for place in places:
                await stub.insert(place.address)
            staller = Staller(machine, stub, model, places, cpu=cpu, on_hold=on_hold)
            await stub.go_on()
            serving = asyncio.create_task(machine.watch.during(staller.serve()))
            serving.add_done_callback(lambda task: _report(machine, task))
            try:
                yield staller
            finally:
                staller.release_all()
                staller.end()
                await _end(stub, serving, places)


def _report(machine: Machine, serving: asyncio.Task[None]) -> None:
    """Let those who wait for the machine know that nobody answers its stops any more."""
    if not serving.cancelled() and isinstance(error := serving.exception(), ChannelError):
        machine.watch.fail(error)


async def _end(stub: GdbStub, serving: asyncio.Task[None], places: Sequence[Place]) -> None:
    """Stop the machine, take the breakpoints away and let it run; a machine that has ended needs none of it."""
    with contextlib.suppress(Exception):
        await stub.interrupt()
        await asyncio.wait({serving}, timeout=_END_SECONDS)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    with contextlib.suppress(ChannelError, TimeoutError):
        for place in places:
            await stub.remove(place.address)
        await stub.detach()


def _address(reply: str) -> int | None:
    """Return the address in the human monitor's `gpa: 0xfe000014`; None if it says that there is none."""
    name, _, number = reply.partition(": ")
    return int(number, 16) if name == "gpa" and number.startswith("0x") else None

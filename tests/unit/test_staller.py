"""What counts as an access that was let through, where QEMU's answer cannot be made to order."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from testbed.machine.gdb_packet import Registers
from testbed.machine.stall import Staller
from testbed.machine.stall_place import Place
from testbed.model.cpu_identity import CpuIdentity
from testbed.model.mmio_record import Space
from testbed.model.stall import parse_stall

PLACE = Place(name="port_read1", address=0x60002000, pause=0x60001FF0, space=Space.PIO)
CPU = CpuIdentity(vendor="AuthenticAMD", family=0x17, model=0x01)
HANDLER = 0xFFFFFFFF81E00B40


@dataclass
class PaperStub:
    """A gdb stub whose vCPU stands at the place once, and after its step where the test says."""

    stepped_to: int
    did: list[str] = field(default_factory=list)

    async def stopped(self) -> Any:
        if self.did:
            raise asyncio.CancelledError
        return _Stop()

    async def registers(self, _thread: int) -> Registers:
        rip = self.stepped_to if "step" in self.did else PLACE.address
        return Registers(values={"rip": rip, "cs": 0x33, "cr4": 0})

    async def remove(self, _address: int) -> None:
        self.did.append("remove")

    async def step(self, _thread: int) -> None:
        self.did.append("step")

    async def insert(self, _address: int) -> None:
        self.did.append("insert")

    async def go_on(self) -> None:
        self.did.append("go on")


@dataclass(frozen=True)
class _Stop:
    signal: int = 5
    thread: int = 1


@pytest.mark.parametrize(
    ("stepped_to", "completed"),
    [(1, 1), (6, 1), (15, 1), (0, 0), (16, 0), (-6, 0), (HANDLER - PLACE.address, 0)],
)
async def test_only_a_step_past_the_instruction_is_a_completed_access(stepped_to: int, completed: int) -> None:
    stub = PaperStub(PLACE.address + stepped_to)
    written: list[str] = []
    machine = SimpleNamespace(journal=SimpleNamespace(mmio=SimpleNamespace(write=lambda kind, _: written.append(kind))))
    model = parse_stall("off")
    staller = Staller(machine, stub, model, [PLACE], cpu=CPU, on_hold=lambda: None)  # type: ignore[arg-type]
    with contextlib.suppress(asyncio.CancelledError):
        await staller.serve()
    assert stub.did == ["remove", "step", "insert", "go on"]
    assert staller.record(PLACE).completed == completed
    assert written == ["passed"] * completed

"""Place: an instruction of a guest that a model stands at, and what came of the accesses made there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.mmio_record import Space

if TYPE_CHECKING:
    from testbed.machine.gdb_packet import Registers
    from testbed.model.stall import Circumstances


@dataclass(frozen=True, kw_only=True)
class Place:
    """An instruction that makes an access, or the first one of a function that does."""

    name: str
    address: int
    pause: int  #: who goes on here comes to `address` again, with its operands unchanged; may be `address` itself
    space: Space = Space.MMIO
    operand: str = "rdi"  #: register with the virtual address of an MMIO access
    #: physical addresses that the model stands for, where accesses to others come too; None: all
    within: range | None = None


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A vCPU that came to a place: its state before the access."""

    vcpu: int
    registers: Registers
    circumstances: Circumstances
    gpa: int | None  #: physical address, as QEMU translated it; None of a port, or where it could not


@dataclass(frozen=True, kw_only=True)
class ExitLoop:
    """A vCPU that began the same instruction again and again."""

    arrival: Arrival  #: the first
    executions: int  #: how often it was begun and not completed
    begun: float  #: by the host's clock
    wall_seconds: float  #: from the first to the last
    monitor: str  #: the words of the human monitor's `info registers` at the first
    evidence: str  #: their line in qmp.jsonl

    @property
    def rate(self) -> float:
        """Return how often it was begun in a wall second."""
        return self.executions / self.wall_seconds if self.wall_seconds else 0.0

    @property
    def where(self) -> str:
        """Return the instruction and the register."""
        gpa = "" if self.arrival.gpa is None else f" gpa {self.arrival.gpa:#x}"
        return f"vCPU {self.arrival.vcpu} rip {self.arrival.registers.rip:#x}{gpa}"


@dataclass(frozen=True, kw_only=True)
class Passage:
    """The accesses that a model looked at, and let through."""

    arrival: Arrival  #: the first
    count: int
    evidence: str  #: the line of the first in mmio.jsonl


@dataclass(kw_only=True)
class PlaceRecord:
    """What came of the accesses at one place so far."""

    place: Place
    loop: ExitLoop | None = None  #: None if none was held
    passage: Passage | None = None  #: None if the model let none through
    released: bool = False  #: whether every access is let through from now on, whatever the model says

    @property
    def completed(self) -> int:
        """Return how many accesses the model let through."""
        return self.passage.count if self.passage else 0

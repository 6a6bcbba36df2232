"""One access of a guest to a device register, whoever saw it: KVM, QEMU or a level-1 host.

Its words are those of a kvm trace, `kvm_mmio: mmio write len 1 gpa 0xfe000014 val 0x1`: Linux
include/trace/events/kvm.h.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Space(enum.StrEnum):
    """Where the register is."""

    MMIO = "mmio"
    PIO = "pio"


class Direction(enum.StrEnum):
    """Which way the value goes, seen from the guest."""

    READ = "read"
    WRITE = "write"


class Mode(enum.StrEnum):
    """The privilege of the code that made the access."""

    USER = "user"
    KERNEL = "kernel"


@dataclass(frozen=True, kw_only=True)
class MmioRecord:
    """One access; None where its witness does not say."""

    seconds: float | None  #: on the witness's clock
    vcpu: int | None
    rip: int | None  #: guest virtual address of the instruction
    gpa: int  #: guest physical address, or the port
    width: int | None  #: in bytes
    value: int | None
    direction: Direction
    region: str = ""  #: QEMU's name of the memory region
    mode: Mode | None = None
    space: Space = Space.MMIO

    def __str__(self) -> str:
        width = "?" if self.width is None else self.width
        value = "?" if self.value is None else f"{self.value:#x}"
        if self.space is Space.PIO:
            return f"kvm_pio: pio_{self.direction} at {self.gpa:#x} size {width} val {value}"
        return f"kvm_mmio: mmio {self.direction} len {width} gpa {self.gpa:#x} val {value}"

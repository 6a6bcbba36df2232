"""How often, how wide and how fast each register was accessed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.model.mmio_record import Direction, Mode, Space

if TYPE_CHECKING:
    from testbed.model.mmio_record import MmioRecord

#: addresses that get a row of their own; a frame buffer alone has more
ADDRESS_LIMIT = 4096
_RIP_LIMIT = 8


@dataclass(slots=True)
class Register:
    """The accesses to one address that reached a device's handler."""

    space: Space
    address: int
    reads: int = 0
    writes: int = 0
    in_user_space: int = 0  #: of these, by QEMU
    widths: set[int] = field(default_factory=set)
    modes: set[Mode] = field(default_factory=set)
    rips: set[int] = field(default_factory=set)  #: the first few instructions
    last_value: int | None = None
    timed: int = 0  #: accesses whose exit and entry both have a time
    total_seconds: float = 0.0  #: from exit to entry
    longest_seconds: float = 0.0

    @property
    def count(self) -> int:
        """Return the number of accesses."""
        return self.reads + self.writes

    @property
    def mean_seconds(self) -> float | None:
        """Return the mean time that the guest stood still for an access; None if the trace does not tell."""
        return self.total_seconds / self.timed if self.timed else None

    def add(self, record: MmioRecord) -> None:
        """Count one access."""
        if record.direction is Direction.READ:
            self.reads += 1
        else:
            self.writes += 1
        if record.width is not None:
            self.widths.add(record.width)
        if record.mode is not None:
            self.modes.add(record.mode)
        if record.rip is not None and len(self.rips) < _RIP_LIMIT:
            self.rips.add(record.rip)
        self.last_value = record.value

    def add_time(self, seconds: float) -> None:
        """Take how long the guest stood still for an access."""
        self.timed += 1
        self.total_seconds += seconds
        self.longest_seconds = max(self.longest_seconds, seconds)


class Registers:
    """Every register seen, in bounded memory."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Space, int], Register] = {}
        self.others = 0  #: accesses to addresses beyond the limit

    def rows(self) -> list[Register]:
        """Return the registers, the busiest first."""
        return sorted(self._rows.values(), key=lambda row: (-row.count, row.space, row.address))

    def find(self, record: MmioRecord) -> Register | None:
        """Return the register of a record if it has a row."""
        return self._rows.get((record.space, record.gpa))

    def add(self, record: MmioRecord, *, in_user_space: bool) -> None:
        """Count one access; `in_user_space`: user space has answered it."""
        row = self.find(record)
        if row is None:
            if len(self._rows) >= ADDRESS_LIMIT:
                self.others += 1
                return
            row = self._rows[record.space, record.gpa] = Register(space=record.space, address=record.gpa)
        row.add(record)
        row.in_user_space += in_user_space

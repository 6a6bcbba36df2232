"""What a whole trace shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.mmio_record import Space

if TYPE_CHECKING:
    from testbed.kvmtrace.loop import Loop
    from testbed.kvmtrace.statistics import Register
    from testbed.model.mmio_record import MmioRecord


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """An access that user space had not answered when the trace ended."""

    record: MmioRecord
    tid: int
    line: int
    seconds: float | None  #: until the trace's end


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a trace shows."""

    lines: int
    events: int
    kvm_events: int
    exits: int
    mmio_exits: int  #: of these by npf, EPT_VIOLATION or EPT_MISCONFIG
    unread: int  #: kvm events laid out in a way that is not known
    lost: int  #: events that the trace says it lost, as far as it has counted them
    gaps: int  #: places where it lost some
    seconds: float | None  #: from its first event to its last
    host: str  #: AMD or Intel, by the exits; empty if there was none that tells
    witnesses: tuple[str, ...]  #: the kinds of events in it that would show progress
    loops: tuple[Loop, ...]
    loops_forgotten: int
    registers: tuple[Register, ...]
    others: int  #: accesses to further addresses
    waiting: tuple[Waiting, ...]

    def completed(self, loop: Loop) -> Register | None:
        """Return the accesses to a loop's address that did reach the device; None if there was none."""
        if loop.gpa is None:
            return None
        return next((row for row in self.registers if row.space is Space.MMIO and row.address == loop.gpa), None)

"""Runs: how often one instruction left the guest for one address without getting past it."""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testbed.kvmtrace.fault import Fault

#: runs a vCPU thread may have open at once before the longest untouched is forgotten
_YOUNG = 64
_SUSPICIOUS = 3
#: loops that are kept of a trace
LOOP_LIMIT = 1000


class Ending(enum.StrEnum):
    """How a loop ends in the trace."""

    REPEATING = "still repeating when the trace ends"
    PROGRESSED = "then the instruction completed"
    LEFT = "then not seen again"


@dataclass(slots=True)
class Run:
    """The exits of one instruction for one address, so far."""

    first: Fault
    last: Fault
    count: int = 1
    adjacent: int = 1  #: the longest row of them without another exit of that vCPU between
    row: int = 1
    failures: int = 0  #: exits at which KVM tried to emulate the instruction and could not
    ending: Ending | None = None

    def extend(self, fault: Fault, *, adjacent: bool) -> None:
        """Add one exit."""
        self.last = fault
        self.count += 1
        self.row = self.row + 1 if adjacent else 1
        self.adjacent = max(self.adjacent, self.row)

    def is_loop(self, at_least: int) -> bool:
        """Return whether it is long enough.

        Memory may fault again at one place in the course of a trace, each time for good reason (dirty logging, NUMA
        balancing): only exits in a row count there. An access to MMIO is never fault-free: all of its exits count.
        """
        exits = self.count if self.last.mmio else self.adjacent
        return exits >= at_least

    def is_suspicious(self, *, alone: bool, others_since: int) -> bool:
        """Return whether it looks like the beginning of a loop, in an excerpt that ends too early to prove one.

        Three in a row by which the trace ends are no chance; `alone`, with no other exit in the excerpt, two are enough
        on a page of MMIO. `others_since`: exits of another kind after its last.
        """
        if not self.last.mmio:
            return self.row >= _SUSPICIOUS and not others_since
        return (self.adjacent >= _SUSPICIOUS or (alone and self.count > 1)) and others_since < self.count


class Runs:
    """The runs of one vCPU thread, in bounded memory."""

    def __init__(self, at_least: int) -> None:
        self._at_least = at_least
        self._young: OrderedDict[tuple[int, int | None], Run] = OrderedDict()
        self._loops: dict[tuple[int, int | None], Run] = {}
        self._ended: list[Run] = []
        self._latest: Run | None = None
        self.forgotten = 0  #: loops beyond the limit

    @property
    def loops(self) -> list[Run]:
        """Return every run that is long enough, in the order of their first exits."""
        return sorted([*self._ended, *self._loops.values()], key=lambda run: run.first.line)

    @property
    def latest(self) -> Run | None:
        """Return the run that the latest exit belongs to, if it is too short for a loop and still open."""
        run = self._latest
        return run if run is not None and run in self._young.values() else None

    def knows(self, fault: Fault) -> bool:
        """Return whether a run of this instruction and address is open."""
        key = (fault.rip, fault.gpa)
        return key in self._loops or key in self._young

    def stuck(self, fault: Fault, *, failed: bool, adjacent: bool) -> None:
        """Take an exit after which the instruction did not complete; `adjacent` if it was the latest exit's next."""
        key = (fault.rip, fault.gpa)
        run = self._loops.get(key) or self._young.get(key)
        if run is None:
            run = self._young[key] = Run(first=fault, last=fault)
        else:
            run.extend(fault, adjacent=adjacent and run is self._latest)
        run.failures += failed
        self._latest = run
        if key in self._young:
            self._grow(key, run)

    def progressed(self, fault: Fault) -> None:
        """Take an exit after which the instruction completed."""
        key = (fault.rip, fault.gpa)
        self._young.pop(key, None)
        run = self._loops.pop(key, None)
        if run is not None:
            run.ending = Ending.PROGRESSED
            self._ended.append(run)
        self._latest = None

    def _grow(self, key: tuple[int, int | None], run: Run) -> None:
        if run.is_loop(self._at_least):
            del self._young[key]
            if len(self._loops) + len(self._ended) < LOOP_LIMIT:
                self._loops[key] = run
            else:
                self.forgotten += 1
            return
        self._young.move_to_end(key)
        if len(self._young) > _YOUNG:
            self._young.popitem(last=False)

"""Guest clock: a guest's seconds in wall seconds and back, between moments at which both are known.

The two run apart: a guest under TCG may be slow, a saved one does not advance, and warped time skips idle time.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A moment at which both clocks are known."""

    wall: float
    guest: float


class GuestClock:
    """Reads one clock off the other: straight lines between the ticks, real time before and after them."""

    def __init__(self, ticks: Iterable[Tick]) -> None:
        """Take at least one tick, in any order."""
        ordered = sorted(ticks, key=lambda tick: tick.wall)
        self._walls = [tick.wall for tick in ordered]
        # frames of one moment may come out of order by microseconds: no clock runs back
        self._guests = list(accumulate((tick.guest for tick in ordered), max))

    def guest(self, wall: float) -> float:
        """Return the guest's time at a wall time."""
        return _read(wall, self._walls, self._guests)

    def wall(self, guest: float) -> float:
        """Return the wall time at a time of the guest's."""
        return _read(guest, self._guests, self._walls)


def _read(value: float, off: Sequence[float], on: Sequence[float]) -> float:
    after = bisect_right(off, value)
    if after in (0, len(off)):
        end = min(after, len(off) - 1)
        return on[end] + (value - off[end])
    before = after - 1
    share = (value - off[before]) / (off[after] - off[before])
    return on[before] + share * (on[after] - on[before])

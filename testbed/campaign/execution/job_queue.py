"""The queue of a campaign: which run comes next, so that runs that share a start share a boot.

Runs with the same start form a group. Its first run boots and saves the guest; only then do the others follow, from
what it saved. A place (this host, or a worker) finishes the groups it has opened before it opens another, the longest
first: so a saved guest is still in the page cache, and never pushed out of the store, when it is resumed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

#: wall seconds that a boot costs: what is left of a group is worth another boot elsewhere only if it lasts longer
BOOT_SECONDS = 4.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a cell."""

    index: int  #: the place of its cell in the list
    seconds: float = 1.0  #: how long it is expected to take, without the boot
    start: str | None = None  #: the key of its start; None: a boot of its own


@dataclass(kw_only=True, eq=False)
class _Group:
    jobs: deque[Job]
    #: where a saved guest is
    open: set[str] = field(default_factory=set)
    #: where one boots
    opening: dict[str, Job] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return sum(job.seconds for job in self.jobs)

    def is_worth_a_boot(self, place: str) -> bool:
        """Return whether another boot of the same guest at a place would save time."""
        return place not in self.opening and self.seconds > BOOT_SECONDS


class JobQueue:
    """The runs that wait."""

    def __init__(self, jobs: Iterable[Job], *, saved: Container[str] = (), place: str = "") -> None:
        """Sort the runs; the guests of the starts in `saved` are saved at `place` already."""
        groups: dict[object, list[Job]] = {}
        for job in jobs:
            groups.setdefault(job.start or job.index, []).append(job)
        made = [_Group(jobs=deque(sorted(each, key=_seconds, reverse=True))) for each in groups.values()]
        made.sort(key=lambda group: group.seconds, reverse=True)
        self._touched = [group for group in made if group.jobs[0].start in saved]
        for group in self._touched:
            group.open.add(place)
        self._untouched = deque(group for group in made if not group.open)
        self._group_of: dict[int, _Group] = {}
        self._changed = asyncio.Event()
        self._seconds = sum(group.seconds for group in made)
        self.left = sum(len(group.jobs) for group in made)  #: jobs that nobody has

    @property
    def boots(self) -> int:
        """Return how many groups have not been touched: each is a boot at least."""
        return len(self._untouched)

    @property
    def seconds(self) -> float:
        """Return how long the runs that wait are expected to take, one after another."""
        return self._seconds + BOOT_SECONDS * self.boots

    def take(self, place: str = "", *, fits: Callable[[Job], bool] = lambda _: True) -> Job | None:
        """Return the next run for a place, or None if there is none for it now."""
        group = self._open_at(place, fits) or self._next_untouched(fits)
        if group is None and (group := self._busiest_elsewhere(place, fits)) is None:
            return None
        job = group.jobs.popleft()
        self._group_of[job.index] = group
        if place not in group.open:
            group.opening[place] = job
        self._count(job, -1)
        return job

    def opened(self, job: Job, place: str = "") -> None:
        """Note that the guest of a run is up, and saved if it can be: the others of its group may follow it."""
        group = self._group_of.get(job.index)
        if group and group.opening.get(place) is job:
            del group.opening[place]
            group.open.add(place)
            self._change()

    def finished(self, job: Job, place: str = "") -> None:
        """Note that a run is over."""
        group = self._group_of.pop(job.index, None)
        if group is None:
            return
        if group.opening.get(place) is job:
            # it never came up: the next of the group tries again
            del group.opening[place]
        if not group.jobs and not group.opening and group in self._touched:
            self._touched.remove(group)
        self._change()

    def give_back(self, job: Job, place: str = "") -> None:
        """Take back a run that came to nothing."""
        group = self._group_of[job.index]
        group.jobs.appendleft(job)
        if group not in self._touched:
            self._touched.append(group)
        self._count(job, +1)
        self.finished(job, place)

    def lost(self, place: str, jobs: Iterable[Job]) -> None:
        """Take back the runs of a place that is gone, with the guests it had saved."""
        for job in jobs:
            self.give_back(job, place)
        for group in self._touched:
            group.open.discard(place)
            group.opening.pop(place, None)
        self._change()

    async def change(self) -> None:
        """Wait until a run has opened its group, ended or come back since the last wait."""
        await self._changed.wait()
        self._changed.clear()

    def _open_at(self, place: str, fits: Callable[[Job], bool]) -> _Group | None:
        return next((each for each in self._touched if place in each.open and each.jobs and fits(each.jobs[0])), None)

    def _next_untouched(self, fits: Callable[[Job], bool]) -> _Group | None:
        """Return the first group that nobody has opened or is opening, now marked as touched."""
        idle = (each for each in self._touched if each.jobs and not each.open and not each.opening)
        if again := next((each for each in idle if fits(each.jobs[0])), None):
            return again
        for group in self._untouched:
            if fits(group.jobs[0]):
                self._untouched.remove(group)
                self._touched.append(group)
                return group
        return None

    def _busiest_elsewhere(self, place: str, fits: Callable[[Job], bool]) -> _Group | None:
        others = [
            each
            for each in self._touched
            if each.jobs and place not in each.open and each.is_worth_a_boot(place) and fits(each.jobs[0])
        ]
        return max(others, key=lambda group: group.seconds, default=None)

    def _count(self, job: Job, sign: int) -> None:
        self.left += sign
        self._seconds += sign * job.seconds

    def _change(self) -> None:
        self._changed.set()


def _seconds(job: Job) -> float:
    return job.seconds

"""Reference searches to count boots against: one element after another, and classic delta debugging.

Both see the same oracle as the bed's own search, check both ends, and end with a trial of what is left; as in it, no
subset is tried twice. They find one minimal set; for further ones they would start again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from testbed.campaign.bisect.result import Answer, Subset

if TYPE_CHECKING:
    from testbed.campaign.bisect.trials import Oracle


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What a reference search found, and for how many boots."""

    found: tuple[int, ...]
    boots: int


@dataclass
class _Memo:
    ask: Oracle
    answers: dict[Subset, Answer] = field(default_factory=dict)

    async def bad(self, subset: Subset) -> bool:
        if subset not in self.answers:
            self.answers[subset] = await self.ask(subset, 1)
        return self.answers[subset] is Answer.BAD

    async def counted(self, found: Subset, whole: Subset) -> Counted:
        await self.bad(whole - found)
        return Counted(found=tuple(sorted(found)), boots=len(self.answers))


async def _ends(memo: _Memo, whole: Subset) -> None:
    if not await memo.bad(whole) or await memo.bad(frozenset()):
        raise ValueError("the ends do not differ")


async def one_by_one(count: int, ask: Oracle) -> Counted:
    """Take out one element after another, and leave out each that is not needed."""
    memo, whole = _Memo(ask), frozenset(range(count))
    await _ends(memo, whole)
    left = whole
    for element in range(count):
        if await memo.bad(left - {element}):
            left -= {element}
    return await memo.counted(left, whole)


async def delta_debugging(count: int, ask: Oracle) -> Counted:
    """Minimise with ddmin: subsets, then complements, then finer ones (Zeller, Hildebrandt 2002)."""
    memo, whole = _Memo(ask), frozenset(range(count))
    await _ends(memo, whole)
    left, pieces = whole, 2
    while len(left) > 1:
        chunks = _chunks(left, pieces)
        if subset := await _first_bad(memo, chunks):
            left, pieces = subset, 2
        elif pieces > 2 and (complement := await _first_bad(memo, [left - chunk for chunk in chunks])):
            left, pieces = complement, max(pieces - 1, 2)
        elif pieces >= len(left):
            break
        else:
            pieces = min(2 * pieces, len(left))
    return await memo.counted(left, whole)


async def _first_bad(memo: _Memo, subsets: list[Subset]) -> Subset | None:
    for subset in subsets:
        if await memo.bad(subset):
            return subset
    return None


def _chunks(elements: Subset, pieces: int) -> list[Subset]:
    ordered = sorted(elements)
    edges = [len(ordered) * piece // pieces for piece in range(pieces + 1)]
    return [frozenset(ordered[start:end]) for start, end in pairwise(edges)]

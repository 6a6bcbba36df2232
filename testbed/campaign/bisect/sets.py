"""One set: the elements that bring the symptom about together, found in few trials and shown to be minimal.

The shortest prefix with the symptom ends in a member of a set. Holding that one, the search goes on among the elements
before it, until what is held has the symptom alone: about log2(n) trials a member, where taking out one element after
another costs n (the dichotomic search of Hemery, Lecoutre, Sais and Boussemart, ECAI 2006; 1-minimality and the third
answer are those of delta debugging, Zeller and Hildebrandt 2002). What is concluded from one trial about another only
steers the search: a set is called proven for trials that were made, so symptoms that come and go as elements are added
cost more trials, not truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from testbed.campaign.bisect.result import Answer, ElementState, FoundSet, Question
from testbed.campaign.bisect.trials import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.campaign.bisect.trials import Trials

#: an answer as the search at hand reads it: BAD where its symptom is
Reading = Callable[[Answer], Answer]
Elements = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SetFinder:
    """Finds one set at a time."""

    trials: Trials
    reading: Reading

    async def find(self, universe: Elements) -> FoundSet:
        """Find a set among elements that, all together, were seen to have the symptom; without any it was not seen."""
        held: Elements = ()
        before, block = universe, 1
        while before:
            low, high = await self._cut(held, before)
            block = max(block, high - low)
            held, before = before[low:high] + held, before[:low]
            if await self._enough(held, universe):
                break
        return await self._minimal(held, block)

    async def _cut(self, held: Elements, before: Elements) -> tuple[int, int]:
        """Return the bounds of the shortest prefix with the symptom beside what is held: one apart, if resolved."""
        answers = self._known_cuts(held, before)
        while True:
            low, high = bounds(answers)
            self._show(held, before, low, high)
            cuts, question = next_cuts(answers, count=self.trials.parallel), Question.CUT
            if not cuts:
                # with `repeat`, the cuts that decide are asked as often as a proof: an error here costs a whole search
                cuts, question = [cut for cut in (low, high) if self._asked(held, before, cut)], Question.EDGE
            seen = dict(answers)
            requests = [Request(frozenset(held + before[:cut]), question) for cut in cuts]
            answers.update(zip(cuts, map(self.reading, await self.trials.ask(*requests)), strict=True))
            if question is Question.EDGE and answers == seen:
                return low, high

    def _known_cuts(self, held: Elements, before: Elements) -> dict[int, Answer]:
        """Return the answers known for cuts: from their own trials, or good from a good one that had more elements."""
        answers = {len(before): Answer.BAD}
        for cut in range(len(before)):
            subset = frozenset(held + before[:cut])
            known = self.trials.known(subset)
            if known is not None:
                answers[cut] = self.reading(known)
            elif Answer.GOOD in map(self.reading, self.trials.inside(subset)):
                answers[cut] = Answer.GOOD
        return answers

    def _asked(self, held: Elements, before: Elements, cut: int) -> bool:
        return self.trials.known(frozenset(held + before[:cut])) is not None

    async def _enough(self, held: Elements, universe: Elements) -> bool:
        """Return whether what is held has the symptom alone; where trials run in pairs, ask for the rest beside it."""
        only = Request(frozenset(held), Question.ONLY)
        rest = Request(frozenset(universe) - frozenset(held), Question.REST)
        spare = self.trials.parallel > 1 and self.trials.known(only.subset) is None
        answers = await self.trials.ask(only, *([rest] if spare else []))
        return self.reading(answers[0]) is Answer.BAD

    async def _minimal(self, held: Elements, block: int) -> FoundSet:
        """Take out what is not needed, first in chunks where elements could not be told apart, then one by one."""
        chunk = max(1, block // 2)
        while True:
            smaller = await self._smaller(held, chunk)
            if smaller is not None:
                held = smaller
            elif chunk == 1:
                break
            else:
                chunk //= 2
        only, *without = await self.trials.ask(Request(frozenset(held), Question.ONLY), *_without(held, 1))
        pairs = zip(held, map(self.reading, without), strict=True)
        unsettled = tuple(element for element, answer in pairs if answer is not Answer.GOOD)
        return FoundSet(elements=held, enough=self.reading(only) is Answer.BAD, unsettled=unsettled)

    async def _smaller(self, held: Elements, chunk: int) -> Elements | None:
        """Return what is left when a chunk can go and the symptom stays; None if every one is needed."""
        requests = _without(held, chunk)
        for start in range(0, len(requests), self.trials.parallel):
            batch = requests[start : start + self.trials.parallel]
            for request, answer in zip(batch, await self.trials.ask(*batch), strict=True):
                if self.reading(answer) is Answer.BAD:
                    return tuple(sorted(request.subset))
        return None

    def _show(self, held: Elements, before: Elements, low: int, high: int) -> None:
        self.trials.mark(before[:low], ElementState.CLEARED)
        self.trials.mark(before[low:high] + held, ElementState.SUSPECT)
        self.trials.mark(before[high:], ElementState.UNKNOWN)
        self.trials.show()


def _without(held: Elements, chunk: int) -> list[Request]:
    """Return a request for each chunk: all that is held but it."""
    chunks = (frozenset(held[start : start + chunk]) for start in range(0, len(held), chunk))
    return [Request(frozenset(held) - taken, Question.WITHOUT) for taken in chunks]


# ---- cuts: how many elements of a list are taken; where to look next for the shortest prefix with the symptom ----


def bounds(answers: Mapping[int, Answer]) -> tuple[int, int]:
    """Return the lowest cut with the symptom, and before it the highest cut without it, 0 if there is none.

    Unresolved cuts between them are gone round, as `git bisect skip` does.
    """
    high = min(cut for cut, answer in answers.items() if answer is Answer.BAD)
    low = max((cut for cut, answer in answers.items() if answer is Answer.GOOD and cut < high), default=0)
    return low, high


def next_cuts(answers: Mapping[int, Answer], *, count: int) -> list[int]:
    """Return up to `count` cuts to ask for at once; none where nothing is left to ask, or it is not worth it.

    They split the widest gap between cuts that were asked for evenly. After as many unresolved cuts as a binary search
    would take, the elements between the bounds count as inseparable: taking out some of them is the better question.
    """
    low, high = bounds(answers)
    unresolved = [cut for cut in answers if low < cut < high]
    if len(unresolved) > (high - low).bit_length():
        return []
    gaps = sorted(pairwise(sorted([low, *unresolved, high])), key=lambda gap: gap[0] - gap[1])
    cuts: list[int] = []
    for start, end in gaps:
        wanted = count - len(cuts)
        cuts += sorted({start + (end - start) * part // (wanted + 1) for part in range(1, wanted + 1)} - {start})
    return cuts

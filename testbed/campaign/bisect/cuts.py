"""Cuts: where to look next for the shortest prefix of a list that still has the symptom.

A cut is how many elements of the list are taken. The answers known so far bound the place: above a cut without the
symptom, at or below one with it. Unresolved cuts between them are gone round, as `git bisect skip` does.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from testbed.campaign.bisect.result import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping


def bounds(answers: Mapping[int, Answer]) -> tuple[int, int]:
    """Return the lowest cut with the symptom, and before it the highest cut without it, 0 if there is none."""
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

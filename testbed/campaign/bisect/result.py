"""What a search over elements asks and finds. Elements are numbers, from 0 in the order they were given."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.errors import InputError
from testbed.model.outcome import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

Subset = frozenset[int]


class Answer(enum.StrEnum):
    """What one trial says."""

    BAD = "bad"
    GOOD = "good"
    UNRESOLVED = "unresolved"  #: the stimulus was not reached: neither

    @classmethod
    def of(cls, verdict: Verdict) -> Answer:
        """Return what a cell's verdict says; `skip` and `broken` say nothing about the guest's behaviour."""
        return {Verdict.BAD: cls.BAD, Verdict.GOOD: cls.GOOD}.get(verdict, cls.UNRESOLVED)


class Question(enum.StrEnum):
    """Why a trial was made."""

    ALL = "all"  #: is the symptom there with every element?
    NONE = "none"  #: and gone without any?
    CUT = "cut"  #: is it there with what is held and the elements up to a cut?
    EDGE = "edge"  #: a cut that singled out an element, asked again for `repeat`
    ONLY = "only"  #: is it there with only the set?
    WITHOUT = "without"  #: is it gone without a member of the set?
    REST = "rest"  #: is it gone with all but what was found?


class ElementState(enum.StrEnum):
    """What is known of an element while the search goes on."""

    UNKNOWN = "unknown"  #: not looked at yet, or not settled
    SUSPECT = "suspect"  #: the next element sought may be this one, or it is held as part of a set
    CLEARED = "cleared"  #: it stood in a trial without the symptom, beside all that is held
    CULPRIT = "culprit"
    ASIDE = "aside"  #: with it the stimulus is not reached


class Goal(enum.StrEnum):
    """Which way the elements turn the verdict."""

    CULPRIT = "culprit"  #: with them it is bad
    REMEDY = "remedy"  #: with them it is good


@dataclass(frozen=True, kw_only=True)
class SearchTrial:
    """One call of the oracle."""

    number: int  #: from 1, in the order they were started
    round: int  #: from 1; trials of one round run at the same time
    subset: tuple[int, ...]
    attempt: int  #: from 1; more with `repeat`
    question: Question
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A subset whose repeated trials did not all say the same."""

    subset: tuple[int, ...]
    answers: tuple[Answer, ...]

    def __str__(self) -> str:
        return ", ".join(f"{answer} in {count} of {len(self.answers)}" for answer, count in _counts(self.answers))


@dataclass(frozen=True, kw_only=True)
class FoundSet:
    """Elements that bring the symptom about together."""

    elements: tuple[int, ...]
    enough: bool  #: a trial with only them has the symptom
    unsettled: tuple[int, ...] = ()  #: members whose trial without them was not resolved: perhaps not needed

    @property
    def proven(self) -> bool:
        """Return whether trials show it 1-minimal: the symptom with only it, none without any one of it."""
        return self.enough and not self.unsettled


@dataclass(frozen=True, kw_only=True)
class BootBreaker:
    """Elements with which the stimulus is not reached, and what was set aside for it."""

    found: FoundSet
    aside: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What a search found, all trials counted."""

    goal: Goal
    sets: tuple[FoundSet, ...]  #: disjoint, in the order they were found
    remedy: tuple[int, ...] | None  #: all but the sets and what was set aside, shown to be without the symptom
    breakers: tuple[BootBreaker, ...]
    candidates: tuple[int, ...]  #: what the search could not settle
    incomplete: str  #: why something was not settled; empty if all is proven
    disagreements: tuple[Disagreement, ...]
    states: tuple[ElementState, ...]
    boots: int
    rounds: int
    trials: tuple[SearchTrial, ...]

    @property
    def culprits(self) -> tuple[int, ...]:
        """Return the members of all sets, in order."""
        return tuple(sorted(element for found in self.sets for element in found.elements))


class EndsAgreeError(InputError):
    """Report that the elements, taken together, do not turn the verdict: there is nothing to search for."""

    def __init__(
        self,
        *,
        count: int,
        goal: Goal,
        with_all: Answer,
        with_none: Answer,
        aside: tuple[int, ...],
        disagreements: tuple[Disagreement, ...],
    ) -> None:
        less = f" but the {len(aside)} set aside" if aside else ""
        super().__init__(
            f"search among {count} elements: {with_all} with all{less}, {with_none} with none of them",
            hint=_ends_hint(goal, with_all, with_none, disagreements),
        )
        self.goal = goal
        self.with_all = with_all
        self.with_none = with_none
        #: elements set aside as boot-breakers before the ends were compared
        self.aside = aside


def majority(answers: Sequence[Answer]) -> Answer:
    """Return what more than half of the answers say, else that it is unresolved."""
    answer, count = _counts(answers)[0]
    return answer if 2 * count > len(answers) else Answer.UNRESOLVED


def _counts(answers: Sequence[Answer]) -> list[tuple[Answer, int]]:
    return Counter(answers).most_common()


def _ends_hint(goal: Goal, with_all: Answer, with_none: Answer, disagreements: Sequence[Disagreement]) -> str:
    if disagreements:
        return f"the verdict is flaky ({disagreements[0]}): repeat each trial more often"
    if with_none is Answer.UNRESOLVED:
        return "the stimulus is not reached without them either: fix that first"
    if with_all is with_none:
        return "they do not change the verdict: look at what both trials have in common"
    if with_all is Answer.UNRESOLVED:
        return "the starting point does not fit the goal: look at what is given besides these elements"
    other = Goal.REMEDY if goal is Goal.CULPRIT else Goal.CULPRIT
    return f"they change it the other way: search with the goal {other.value!r}"

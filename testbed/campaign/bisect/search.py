"""The search: check both ends, find every disjoint set and prove it, and prove what is left once they are out.

Trials with n elements, k of them in one set, all counted: 2 for the ends, about k log2(n) for the cuts, 2k - 1 at most
for the proof, 1 for the remedy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.campaign.bisect.result import (
    Answer,
    BootBreaker,
    ElementState,
    EndsAgreeError,
    FoundSet,
    Goal,
    Question,
    SearchResult,
)
from testbed.campaign.bisect.sets import SetFinder
from testbed.campaign.bisect.trials import Request, Trials

if TYPE_CHECKING:
    from testbed.campaign.bisect.sets import Elements, Reading
    from testbed.campaign.bisect.trials import Oracle, SearchObserver

_NO_REMEDY = "no clear answer with all but the sets found: there may be more sets, and no remedy is proven"
_UNSETTLED = "no clear answer without {count} of the members: it is open whether they are needed"
_CONTRADICTION = "a set was seen to cause the symptom, and did not when tried again: the answers contradict each other"


async def search(
    count: int,
    ask: Oracle,
    *,
    goal: Goal = Goal.CULPRIT,
    parallel: int = 1,
    repeat: int = 1,
    observer: SearchObserver | None = None,
) -> SearchResult:
    """Find which of `count` elements turn the verdict.

    With the goal `culprit` all elements together are bad and none of them is good; with `remedy` it is the other way
    round, and a set is what makes it good. `parallel` trials run at once; the ends, the proofs and the remedy are tried
    `repeat` times. Raises EndsAgreeError if the elements do not turn the verdict that way, and what the oracle raises.
    """
    trials = Trials(ask, count=count, parallel=parallel, repeat=repeat, observer=observer)
    return await _Search(trials=trials, goal=goal, count=count).run()


async def search_singly(
    count: int, ask: Oracle, *, parallel: int = 1, repeat: int = 1, observer: SearchObserver | None = None
) -> SearchResult:
    """Find every element that alone is a remedy; that it is bad without any was seen before."""
    trials = Trials(ask, count=count, parallel=parallel, repeat=repeat, observer=observer)
    requests = [Request(frozenset({element}), Question.ONLY) for element in range(count)]
    answers = await trials.ask(Request(frozenset(), Question.NONE), *requests)
    found = [element for element, answer in enumerate(answers[1:]) if answer is Answer.GOOD]
    trials.mark(range(count), ElementState.CLEARED)
    trials.mark(found, ElementState.CULPRIT)
    trials.show()
    return SearchResult(
        goal=Goal.REMEDY,
        sets=tuple(FoundSet(elements=(element,), enough=True) for element in found),
        remedy=None,
        breakers=(),
        candidates=(),
        incomplete="",
        disagreements=trials.disagreements,
        states=trials.states,
        boots=len(trials.log),
        rounds=trials.rounds,
        trials=tuple(trials.log),
    )


def _as_it_is(answer: Answer) -> Answer:
    return answer


def _mirrored(answer: Answer) -> Answer:
    return {Answer.BAD: Answer.GOOD, Answer.GOOD: Answer.BAD}.get(answer, answer)


def _breaks(answer: Answer) -> Answer:
    """Read not reaching the stimulus as the symptom, and any judgement as its absence."""
    return Answer.BAD if answer is Answer.UNRESOLVED else Answer.GOOD


@dataclass(kw_only=True)
class _Search:
    trials: Trials
    goal: Goal
    count: int
    sets: list[FoundSet] = field(default_factory=list)
    breakers: list[BootBreaker] = field(default_factory=list)

    @property
    def reading(self) -> Reading:
        return _as_it_is if self.goal is Goal.CULPRIT else _mirrored

    async def run(self) -> SearchResult:
        universe = await self._check_ends()
        last = Answer.BAD
        while last is Answer.BAD:
            found = await SetFinder(trials=self.trials, reading=self.reading).find(universe)
            self.sets.append(found)
            self.trials.mark(universe, ElementState.UNKNOWN)
            self.trials.mark(found.elements, ElementState.CULPRIT)
            self.trials.mark(found.unsettled, ElementState.SUSPECT)
            universe = _less(universe, found.elements)
            last = self.reading(await self._ask(universe, Question.REST))
        if last is Answer.GOOD:
            self.trials.mark(universe, ElementState.CLEARED)
        self.trials.show()
        return self._result(universe, remedied=last is Answer.GOOD)

    async def _check_ends(self) -> Elements:
        """Return the elements to search among: all, or those left when the boot-breakers are set aside."""
        universe = tuple(range(self.count))
        with_all, with_none = await self.trials.ask(
            Request(frozenset(universe), Question.ALL), Request(frozenset(), Question.NONE)
        )
        if self.reading(with_none) is Answer.GOOD:
            while with_all is Answer.UNRESOLVED and not self.trials.disagree(frozenset(universe)):
                universe = await self._set_aside(universe)
                with_all = await self._ask(universe, Question.REST)
        if self.reading(with_all) is not Answer.BAD or self.reading(with_none) is not Answer.GOOD:
            raise EndsAgreeError(
                count=self.count,
                goal=self.goal,
                with_all=with_all,
                with_none=with_none,
                aside=tuple(sorted(element for breaker in self.breakers for element in breaker.aside)),
                disagreements=self.trials.disagreements,
            )
        return universe

    async def _set_aside(self, universe: Elements) -> Elements:
        """Find a set that keeps the stimulus from being reached, and return the elements without what makes it one.

        One member is enough to set aside. The others stay, so it is one that leaves the symptom if there is such.
        """
        found = await SetFinder(trials=self.trials, reading=_breaks).find(universe)
        answers: dict[int, Answer] = {}
        for element in found.elements:
            answers[element] = await self._ask(_less(universe, (element,)), Question.REST)
            if self.reading(answers[element]) is Answer.BAD:
                break
        resolved = [element for element, answer in answers.items() if answer is not Answer.UNRESOLVED]
        aside = (resolved[-1] if resolved else found.elements[0],)
        self.breakers.append(BootBreaker(found=found, aside=aside))
        self.trials.mark(universe, ElementState.UNKNOWN)
        self.trials.mark(aside, ElementState.ASIDE)
        return _less(universe, aside)

    async def _ask(self, elements: Elements, question: Question) -> Answer:
        (answer,) = await self.trials.ask(Request(frozenset(elements), question))
        return answer

    def _result(self, rest: Elements, *, remedied: bool) -> SearchResult:
        unsettled = [element for found in self.sets for element in found.unsettled]
        return SearchResult(
            goal=self.goal,
            sets=tuple(self.sets),
            remedy=rest if remedied else None,
            breakers=tuple(self.breakers),
            candidates=tuple(sorted([*unsettled, *(() if remedied else rest)])),
            incomplete="; ".join(self._open_questions(unsettled, remedied=remedied)),
            disagreements=self.trials.disagreements,
            states=self.trials.states,
            boots=len(self.trials.log),
            rounds=self.trials.rounds,
            trials=tuple(self.trials.log),
        )

    def _open_questions(self, unsettled: list[int], *, remedied: bool) -> list[str]:
        questions = []
        if any(not found.enough for found in self.sets):
            questions.append(_CONTRADICTION)
        if unsettled:
            questions.append(_UNSETTLED.format(count=len(unsettled)))
        if not remedied:
            questions.append(_NO_REMEDY)
        return questions


def _less(elements: Elements, taken: Elements) -> Elements:
    return tuple(element for element in elements if element not in taken)

"""Try elements one at a time: for candidates that hinder each other, where a search has no end to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.campaign.bisect.result import Answer, FoundSet, Goal, Question, SearchResult, State
from testbed.campaign.bisect.trials import Request, Trials

if TYPE_CHECKING:
    from testbed.campaign.bisect.trials import Oracle, SearchObserver


async def search_singly(
    count: int, ask: Oracle, *, parallel: int = 1, repeat: int = 1, observer: SearchObserver | None = None
) -> SearchResult:
    """Find every element that alone is a remedy; that it is bad without any was seen before."""
    trials = Trials(ask, count=count, parallel=parallel, repeat=repeat, observer=observer)
    requests = [Request(frozenset({element}), Question.ONLY) for element in range(count)]
    answers = await trials.ask(Request(frozenset(), Question.NONE), *requests)
    found = [element for element, answer in enumerate(answers[1:]) if answer is Answer.GOOD]
    trials.mark(range(count), State.CLEARED)
    trials.mark(found, State.CULPRIT)
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

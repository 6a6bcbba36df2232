"""The trials of one search: none is made twice, as many as allowed run at once, and everybody hears of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from testbed.campaign.bisect.result import Answer, Disagreement, ElementState, Question, SearchTrial, Subset, majority

if TYPE_CHECKING:
    from collections.abc import Iterable

#: runs a trial: the elements that are in it, and which attempt at them this is (from 1)
Oracle = Callable[[Subset, int], Awaitable[Answer]]

#: elements asked once only, since an error in them shows in a later trial
_ASKED_ONCE = frozenset({Question.CUT})


class SearchObserver(Protocol):
    """An observer of a search's progress."""

    def asking(self, subset: Subset, question: Question) -> None:
        """Note that a trial starts."""

    def answered(self, trial: SearchTrial) -> None:
        """Note what it said."""

    def states(self, states: tuple[ElementState, ...]) -> None:
        """Note what is known of each element now."""


@dataclass(frozen=True)
class Request:
    """A subset somebody wants an answer for."""

    subset: Subset
    question: Question


class Trials:
    """Asks the oracle, and remembers."""

    def __init__(
        self, ask: Oracle, *, count: int, parallel: int, repeat: int, observer: SearchObserver | None = None
    ) -> None:
        self.parallel = parallel
        self.repeat = repeat
        self.log: list[SearchTrial] = []
        self.rounds = 0
        self._ask = ask
        self._observer = observer
        self._answers: dict[Subset, list[Answer]] = {}
        self._states = [ElementState.UNKNOWN] * count

    @property
    def states(self) -> tuple[ElementState, ...]:
        """Return what is known of each element."""
        return tuple(self._states)

    def mark(self, elements: Iterable[int], state: ElementState) -> None:
        """Note what is known of some elements."""
        for element in elements:
            self._states[element] = state

    def show(self) -> None:
        """Tell the observer what is known of each element."""
        if self._observer:
            self._observer.states(self.states)

    def known(self, subset: Subset) -> Answer | None:
        """Return what the trials with exactly these elements said; None if there was none."""
        return majority(self._answers[subset]) if subset in self._answers else None

    def disagree(self, subset: Subset) -> bool:
        """Return whether repeated trials of these elements did not all say the same."""
        return len(set(self._answers[subset])) > 1

    def inside(self, subset: Subset) -> list[Answer]:
        """Return the answers of all trials that had these elements, and perhaps more."""
        return [majority(answers) for tried, answers in self._answers.items() if subset <= tried]

    @property
    def disagreements(self) -> tuple[Disagreement, ...]:
        """Return the subsets whose repeated trials did not all say the same."""
        return tuple(
            Disagreement(subset=tuple(sorted(subset)), answers=tuple(answers))
            for subset, answers in self._answers.items()
            if self.disagree(subset)
        )

    async def ask(self, *requests: Request) -> list[Answer]:
        """Return the answers to some requests, making the trials that are missing, at most `parallel` at once.

        With `repeat` a decisive request is tried so often, earlier trials of its subset counted, and the majority
        answers. An error of the oracle ends the trials beside it and is raised as it is.
        """
        missing = self._missing(requests)
        for start in range(0, len(missing), self.parallel):
            await self._round(missing[start : start + self.parallel])
        return [majority(self._answers[request.subset]) for request in requests]

    def _missing(self, requests: Iterable[Request]) -> list[tuple[Request, int]]:
        missing: dict[tuple[Subset, int], Request] = {}
        for request in requests:
            wanted = 1 if request.question in _ASKED_ONCE else self.repeat
            for attempt in range(len(self._answers.get(request.subset, ())) + 1, wanted + 1):
                missing[request.subset, attempt] = request
        return [(request, attempt) for (_, attempt), request in missing.items()]

    async def _round(self, calls: list[tuple[Request, int]]) -> None:
        self.rounds += 1
        first = len(self.log) + 1
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._try(request, attempt, number))
                    for number, (request, attempt) in enumerate(calls, first)
                ]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        for task in tasks:
            trial = task.result()
            self.log.append(trial)
            self._answers.setdefault(frozenset(trial.subset), []).append(trial.answer)

    async def _try(self, request: Request, attempt: int, number: int) -> SearchTrial:
        if self._observer:
            self._observer.asking(request.subset, request.question)
        answer = await self._ask(request.subset, attempt)
        trial = SearchTrial(
            number=number,
            round=self.rounds,
            subset=tuple(sorted(request.subset)),
            attempt=attempt,
            question=request.question,
            answer=answer,
        )
        if self._observer:
            self._observer.answered(trial)
        return trial

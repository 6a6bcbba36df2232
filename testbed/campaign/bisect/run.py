"""Run a bisect: the search, asked of real guests, with more memory if the guest needs it."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from testbed.campaign.bisect.oracle import MoreMemoryError, Oracle, OracleObserver
from testbed.campaign.bisect.record import TrialRecord
from testbed.campaign.bisect.result import Answer, EndsAgreeError, Goal
from testbed.campaign.bisect.search import search, search_singly
from testbed.campaign.prepared import prepare_cell
from testbed.host.host import LocalHost
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from testbed.campaign.bisect.elements import Elements
    from testbed.campaign.bisect.oracle import Tried
    from testbed.campaign.bisect.result import ElementState, Question, SearchResult, SearchTrial, Subset
    from testbed.model.outcome import Outcome


class BisectObserver(OracleObserver, Protocol):
    """An observer of a bisect's progress."""

    def asking(self, subset: Subset, question: Question) -> None:
        """Note that a trial starts."""

    def answered(self, trial: SearchTrial, tried: Tried) -> None:
        """Note what a trial said, and from what."""

    def states(self, states: tuple[ElementState, ...]) -> None:
        """Note what is known of each element now."""


@dataclass(frozen=True, kw_only=True)
class Bisected:
    """What a bisect did."""

    elements: Elements
    result: SearchResult
    tried: Mapping[tuple[Subset, int], Tried]
    boots: int
    seconds: float
    notes: tuple[str, ...]

    def outcomes(self) -> list[Outcome]:
        """Return what each trial came to, in their order, those included that were made before it was resumed."""
        tried = (self.tried[frozenset(trial.subset), trial.attempt] for trial in self.result.trials)
        return [each.outcome for each in tried if each.outcome]


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a bisect is to go about it."""

    goal: Goal = Goal.CULPRIT
    parallel: int = 1
    repeat: int = 1


async def bisect(elements: Elements, way: Way, *, rundir: Path, observer: BisectObserver) -> Bisected:
    """Find which of the elements turn the verdict; trials that were made in this rundir are not made again.

    Raises:
        InputError: an end cannot be used, or the ends agree.
        UnsupportedError: an end cannot run here.
        BrokenError: the bed's own fault; what was tried is kept.
    """
    began = time.monotonic()
    for end in (elements.everything, frozenset[int]()):
        prepare_cell(elements.cell(end), progress=observer.note)
    notes = list(elements.notes)
    async with LocalHost() as host, contextlib.AsyncExitStack() as stack:
        record = stack.enter_context(TrialRecord(rundir))
        oracle = Oracle(elements, host=host, rundir=rundir, record=record, observer=observer)
        relay = _Relay(oracle, observer)
        try:
            result = await _search(elements, oracle, way, relay, notes)
        except MoreMemoryError as more:
            notes.append(f"with every {elements.noun} the guest does not boot: all guests were given {more} of memory")
            result = await _search(elements, oracle, way, relay, notes)
    return Bisected(
        elements=elements,
        result=result,
        tried=oracle.tried,
        boots=oracle.boots,
        seconds=round(time.monotonic() - began, 1),
        notes=tuple(notes),
    )


class _Relay:
    """Passes the search's words on, with what the trial was."""

    def __init__(self, oracle: Oracle, observer: BisectObserver) -> None:
        self._oracle = oracle
        self._observer = observer

    def asking(self, subset: Subset, question: Question) -> None:
        """Pass on that a trial starts."""
        self._observer.asking(subset, question)

    def answered(self, trial: SearchTrial) -> None:
        """Pass on what it said."""
        self._observer.answered(trial, self._oracle.tried[frozenset(trial.subset), trial.attempt])

    def states(self, states: tuple[ElementState, ...]) -> None:
        """Pass on what is known of each element now."""
        self._observer.states(states)


async def _search(elements: Elements, oracle: Oracle, way: Way, relay: _Relay, notes: list[str]) -> SearchResult:
    """Search; candidates for a remedy that together are none are then tried one at a time."""
    count = len(elements)
    try:
        return await search(count, oracle, goal=way.goal, parallel=way.parallel, repeat=way.repeat, observer=relay)
    except EndsAgreeError as error:
        hindered = way.goal is Goal.REMEDY and error.with_none is Answer.BAD and error.with_all is not Answer.GOOD
        if not hindered or elements.over != "cmdline" or error.aside or count == 1:
            raise _in_words(error, elements, oracle, way) from None
        notes.append("all candidates together are no remedy, so each was tried alone, but no pairs")
        found = await search_singly(count, oracle, parallel=way.parallel, repeat=way.repeat, observer=relay)
        if not found.sets:
            raise _in_words(error, elements, oracle, way) from None
        return found


def _in_words(error: EndsAgreeError, elements: Elements, oracle: Oracle, way: Way) -> InputError:
    """Return the error of ends that agree in words of what was given, with what was seen at each."""
    ends = {"with_all": elements.everything - frozenset(error.aside), "with_none": frozenset[int]()}
    reasons = {name: oracle.tried[subset, 1].reason for name, subset in ends.items()}
    less = f" but {' '.join(elements.named(frozenset(error.aside)))}" if error.aside else ""
    message = (
        f"bisect: {error.with_all} with {elements.describe(elements.everything)}{less}, {error.with_none} with none of "
        f"them\n  with: {reasons['with_all']}\n  without: {reasons['with_none']}"
    )
    return InputError(message, hint=_hint(error, elements, way))


def _hint(error: EndsAgreeError, elements: Elements, way: Way) -> str | None:
    ends = (error.with_all, error.with_none)
    if ends == (Answer.GOOD, Answer.GOOD):
        return "the symptom does not occur: give the machine (--machine, -p) and the kernel (--image) it was seen with"
    if ends == (Answer.BAD, Answer.BAD) and way.goal is Goal.CULPRIT:
        more = "what is on the line does not matter; " if elements.over == "cmdline" else ""
        return f"{more}look for what does: --over parameters, devices or machine; or for a remedy: --goal remedy"
    if ends == (Answer.BAD, Answer.BAD):
        return "none of them fixes it: give others with --candidates, or search over something else"
    if Answer.UNRESOLVED not in ends:
        other = Goal.REMEDY if way.goal is Goal.CULPRIT else Goal.CULPRIT
        return f"they change it the other way round: --goal {other}"
    return error.hint

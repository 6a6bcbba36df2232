"""From a finished bisect to its report, and to its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.campaign.bisect.elements import run_command
from testbed.campaign.bisect.explanation import Explained, explain_set
from testbed.campaign.bisect.result import Goal
from testbed.model.bisect import BisectAside, BisectDisagreement, BisectReport, BisectSet, BisectTrial

if TYPE_CHECKING:
    from testbed.campaign.bisect.oracle import Tried
    from testbed.campaign.bisect.result import BootBreaker, FoundSet, SearchTrial, Subset
    from testbed.campaign.bisect.run import Bisected


def bisect_report(done: Bisected) -> BisectReport:
    """Return the report of a bisect."""
    elements, result = done.elements, done.result
    end = done.tried[frozenset(), 1].cell
    return BisectReport(
        scenario=end.scenario,
        machine=end.machine,
        over=elements.over,
        goal=result.goal.value,
        elements=elements.names,
        proven=bool(result.sets) and all(found.proven for found in result.sets) and not result.incomplete,
        modelled=next(filter(None, map(_modelled, done.tried.values())), ""),
        culprits=tuple(name for found in result.sets for name in _names(done, found.elements)),
        sets=tuple(_set(done, found) for found in result.sets),
        remedy=_remedy(done),
        aside=_aside(done),
        candidates=_names(done, result.candidates),
        incomplete=result.incomplete,
        disagreements=tuple(
            BisectDisagreement(elements=_names(done, each.subset), answers=tuple(map(str, each.answers)))
            for each in result.disagreements
        ),
        boots=done.boots,
        rounds=result.rounds,
        seconds=done.seconds,
        notes=done.notes,
        trials=tuple(_trial(done, trial) for trial in result.trials),
    )


def bisect_exit(report: BisectReport) -> int:
    """Return 0 for an answer that is proven, 1 for one that is not."""
    return 0 if report.proven else 1


def _names(done: Bisected, numbers: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(done.elements.names[number] for number in numbers)


def _modelled(tried: Tried) -> str:
    return tried.outcome.modelled if tried.outcome else ""


def _first(done: Bisected, subset: Subset) -> Tried | None:
    return done.tried.get((subset, 1))


def _set(done: Bisected, found: FoundSet) -> BisectSet:
    subset = frozenset(found.elements)
    only = _first(done, subset)
    compared = next((element for element in found.elements if element not in found.unsettled), None)
    explained = _explained(done, subset, compared)
    return BisectSet(
        elements=_names(done, found.elements),
        proven=found.proven,
        enough=found.enough,
        unsettled=_names(done, found.unsettled),
        command=run_command(only.cell if only else done.elements.cell(subset)),
        reason=only.reason if only else "",
        why=explained.why,
        compared="" if compared is None else done.elements.names[compared],
        changes=explained.changes,
    )


def _explained(done: Bisected, subset: Subset, compared: int | None) -> Explained:
    """Explain a set by the trial with only it, and the one without a member of it."""
    only = _first(done, subset)
    without = None if compared is None else _first(done, subset - {compared})
    if only is None or without is None:
        return Explained(why=(), changes=())
    return explain_set(done.elements.named(subset), only, without, goal=done.result.goal)


def _remedy(done: Bisected) -> str | None:
    """Return what was shown good: all without the culprits, or with the first remedy."""
    result, elements = done.result, done.elements
    if result.goal is Goal.CULPRIT:
        return None if result.remedy is None else elements.pasted(frozenset(result.remedy))
    enough = [found for found in result.sets if found.enough]
    return elements.pasted(frozenset(min(enough, key=lambda found: len(found.elements)).elements)) if enough else None


def _aside(done: Bisected) -> tuple[BisectAside, ...]:
    untried = [BisectAside(element=each.name, reason=each.reason) for each in done.elements.aside]
    found = [
        BisectAside(element=name, reason=_why_aside(done, breaker))
        for breaker in done.result.breakers
        for name in _names(done, breaker.aside)
    ]
    return (*untried, *found)


def _why_aside(done: Bisected, breaker: BootBreaker) -> str:
    others = [name for name in _names(done, breaker.found.elements) if name not in _names(done, breaker.aside)]
    with_them = f" together with {' '.join(others)}" if others else ""
    tried = _first(done, frozenset(breaker.found.elements))
    seen = f": {tried.reason}" if tried else ""
    return f"with it{with_them} the guest does not reach the stimulus{seen}"


def _trial(done: Bisected, trial: SearchTrial) -> BisectTrial:
    tried = done.tried[frozenset(trial.subset), trial.attempt]
    outcome = tried.outcome
    return BisectTrial(
        number=trial.number,
        round=trial.round,
        attempt=trial.attempt,
        question=trial.question.value,
        elements=_names(done, trial.subset),
        cmdline=tried.cell.cmdline,
        answer=trial.answer.value,
        outcome=outcome.outcome if outcome else "refused",
        reason=tried.reason,
        cached=tried.cached,
        wall_seconds=outcome.wall_seconds if outcome else 0.0,
        rundir=outcome.rundir if outcome else "",
    )

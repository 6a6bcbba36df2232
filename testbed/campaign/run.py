"""Run the cells of a case, a comparison or a matrix: planned first, then run by an executor."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from testbed.campaign.cell.judge import OTHER_VERSION, REJECTED, TREE_OUTCOMES
from testbed.campaign.cell.outcome_file import skip_cell
from testbed.campaign.execution.job_queue import Job, JobQueue
from testbed.campaign.execution.local import LocalExecutor
from testbed.model.errors import BedError, LackingError
from testbed.model.outcome import CaseResult, Role, RunReport, Verdict
from testbed.scenarios.scenario import find_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from testbed.campaign.cell.run import OnReady, OnVerdict
    from testbed.campaign.execution.executor import Executor, Observer, Place
    from testbed.model.outcome import Cell, Outcome

    Guess = Callable[[Cell], float]
    OnPlanned = Callable[[JobQueue], None]

#: exit codes, see docs; the worst counts
_EXIT = {Verdict.GOOD: 0, Verdict.BAD: 1, Verdict.SKIP: 125, Verdict.BROKEN: 128}
_BADNESS = (Verdict.GOOD, Verdict.SKIP, Verdict.BAD, Verdict.BROKEN)


class _Collected:
    """Keeps the outcomes that an observer receives."""

    def __init__(self, observer: Observer) -> None:
        self.preparing = observer.preparing
        self.phase = observer.phase
        self._done = observer.done
        self.outcomes: dict[int, Outcome] = {}

    def done(self, index: int, outcome: Outcome) -> None:
        """Keep it, and pass it on."""
        self.outcomes[index] = outcome
        self._done(index, outcome)


async def run_cells(
    cells: Sequence[Cell],
    *,
    place: Place,
    jobs: int,
    observer: Observer,
    on_planned: OnPlanned = lambda _: None,
    on_verdict: OnVerdict | None = None,
    on_ready: OnReady | None = None,
    skip_lacking: bool = False,
) -> list[Outcome]:
    """Run cells here, `jobs` at a time, and return their outcomes in the order given; see `run_cell` for the hooks.

    `on_planned` is given the queue before the first guest starts.
    Every cell is prepared before the first guest starts: raises InputError for the first whose input cannot be used.
    One whose QEMU, machine type or device is not there is skipped, unless that name was given for it by a person and
    `skip_lacking` does not say that it is known to be no slip.
    """
    executor = LocalExecutor(jobs=jobs, on_verdict=on_verdict, on_ready=on_ready)
    collected = _Collected(observer)

    def refuse(index: int, error: BedError) -> None:
        slip = not skip_lacking and isinstance(error, LackingError) and given_by_hand(cells[index], error.lacking)
        if slip or not isinstance(error, LackingError):
            raise error

    async with executor:
        queue = await plan_runs(
            executor, cells, range(len(cells)), place=place, observer=collected, guess=guess_seconds, on_error=refuse
        )
        on_planned(queue)
        await executor.execute(cells, queue, place=place, observer=collected)
    return [collected.outcomes[index] for index in range(len(cells))]


async def plan_runs(
    executor: Executor,
    cells: Sequence[Cell],
    wanted: Iterable[int],
    *,
    place: Place,
    observer: Observer,
    guess: Guess,
    on_error: Callable[[int, BedError], None] = lambda _index, _error: None,
) -> JobQueue:
    """Prepare the wanted cells and return the queue of those that can run; the others have their outcome at once.

    `on_error` hears what is wrong with a cell, and may raise it.
    """
    jobs: list[Job] = []
    for index in wanted:
        cell = cells[index]
        try:
            start = await executor.start_of(cell, progress=observer.preparing)
        except BedError as error:
            on_error(index, error)
            observer.done(index, skip_cell(cell, error, rundir=place(index)))
        else:
            jobs.append(Job(index=index, seconds=guess(cell), start=start))
    starts = {job.start for job in jobs if job.start}
    return JobQueue(jobs, saved={start for start in starts if executor.is_saved(start)})


def places(rundir: Path, cells: Sequence[Cell]) -> Place:
    """Return what gives each cell a folder in a rundir, named by its index and its id."""
    return lambda index: rundir / folder_name(index, cells[index])


def given_by_hand(cell: Cell, name: str) -> bool:
    """Return whether a name was given for a cell outside a case, where it may be a typo."""
    return cell.expected is None and name in json.dumps(cell.parameters)


def folder_name(index: int, cell: Cell) -> str:
    """Return the name of a cell's rundir: its index, then its id."""
    readable = re.sub(r"[^a-z0-9.=]+", "-", cell.id.lower()).strip("-")
    return f"{index + 1:02d}-{readable[:80]}"


def summarize(case: str | None, outcomes: Sequence[Outcome]) -> RunReport:
    """Return the report of a run."""
    return RunReport(case=case, result=_result(outcomes), cells=tuple(outcomes))


def exit_code(report: RunReport) -> int:
    """Return the exit code of one report: of a case its result, of free cells their worst verdict."""
    if any(outcome.outcome == REJECTED for outcome in report.cells):
        return 2
    if report.case is None:
        worst = max((outcome.verdict for outcome in report.cells), key=_BADNESS.index, default=Verdict.GOOD)
        return _EXIT[worst]
    return {
        CaseResult.REPRODUCED: 0,
        CaseResult.DIFFERS: 1,
        CaseResult.SKIPPED: 125,
        CaseResult.BROKEN: 128,
    }[report.result]


def git_bisect_exit(report: RunReport) -> int:
    """Return the exit code of one report for `git bisect run`.

    A guest that never reached its stimulus is the tree's fault and skips this commit (125); what is not its fault
    must stop the bisect (128), since git takes every other code for `bad`.
    """
    broken = [outcome for outcome in report.cells if outcome.verdict is Verdict.BROKEN]
    if broken:
        return 125 if all(outcome.outcome in TREE_OUTCOMES for outcome in broken) else 128
    return exit_code(report)


def worst_exit(codes: Sequence[int]) -> int:
    """Return the exit code of several reports: usage, then broken, bad, skip, good."""
    return max(codes, key=(0, 125, 1, 128, 2).index, default=0)


def _result(outcomes: Sequence[Outcome]) -> CaseResult:
    if any(outcome.verdict is Verdict.BROKEN for outcome in outcomes):
        return CaseResult.BROKEN
    if any(_is_lacking(role, outcomes) for role in (Role.FAILING, Role.CONTROL)):
        return CaseResult.SKIPPED
    ran = [outcome for outcome in outcomes if outcome.verdict is not Verdict.SKIP]
    if not ran:
        return CaseResult.SKIPPED
    return CaseResult.REPRODUCED if all(outcome.as_expected for outcome in ran) else CaseResult.DIFFERS


def _is_lacking(role: Role, outcomes: Sequence[Outcome]) -> bool:
    """Return whether a cell of a role could not run, other than one in whose place another for this version ran."""
    of_role = [outcome for outcome in outcomes if outcome.role is role]
    skipped = [outcome for outcome in of_role if outcome.verdict is Verdict.SKIP]
    return any(outcome.outcome != OTHER_VERSION for outcome in skipped) or (bool(skipped) and skipped == of_role)


def guess_seconds(cell: Cell) -> float:
    """Guess how long a cell takes: an ignored request lasts until its deadline, pciehp's button seven seconds."""
    scenario = find_scenario(cell.scenario)
    if scenario.lasts:
        return scenario.lasts(scenario.values(cell.options))
    if cell.expected is Verdict.BAD:
        return 40.0
    return 10.0 if cell.parameters.get("hotplug") == "native" else 5.0

"""Run many cells: prepared first, then the longest first, a few at a time; one broken cell never stops the others."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from testbed.campaign.judge import REJECTED, TREE_OUTCOMES
from testbed.campaign.trial_run import Prepared, prepare, run_cell, skip_cell
from testbed.host.host import LocalHost
from testbed.host.slots import core_count, guest_slot
from testbed.model.errors import LackingError
from testbed.model.outcome import CaseResult, Role, RunReport, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.campaign.trial_run import OnVerdict
    from testbed.model.outcome import Cell, Outcome

#: exit codes, see docs; the worst counts
_EXIT = {Verdict.GOOD: 0, Verdict.BAD: 1, Verdict.SKIP: 125, Verdict.BROKEN: 128}
#: guests started for each that may be busy, where guests wait in real time
_WAITING = 4
_BADNESS = (Verdict.GOOD, Verdict.SKIP, Verdict.BAD, Verdict.BROKEN)


class Observer(Protocol):
    """Who is told how the cells get on; cells are named by their place in the list."""

    def preparing(self, message: str) -> None:
        """Hear what is done before any cell starts."""

    def phase(self, index: int, phase: str) -> None:
        """Hear that a cell entered a phase."""

    def done(self, index: int, outcome: Outcome) -> None:
        """Hear that a cell has its outcome."""


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A prepared cell and its place in the list."""

    index: int
    prepared: Prepared


async def run_cells(
    cells: Sequence[Cell], *, rundir: Path, jobs: int, observer: Observer, on_verdict: OnVerdict | None = None
) -> list[Outcome]:
    """Run cells, `jobs` at a time, and return their outcomes in the order given; see `run_cell` for `on_verdict`.

    Every cell is prepared before the first guest starts: raises InputError for the first whose input cannot be used.
    One whose QEMU, machine type or device is not there is skipped, unless that name was given for it by a person.
    """
    prepared, lacking = await _prepare(cells, observer)
    outcomes: dict[int, Outcome] = {}
    for index, error in lacking.items():
        folder = rundir / folder_name(index, cells[index])
        outcomes[index] = skip_cell(cells[index], error, rundir=folder)
        observer.done(index, outcomes[index])
    waiting = sorted(prepared, key=_expected_seconds, reverse=True)

    async def work(host: LocalHost) -> None:
        while waiting:
            cell = waiting.pop(0)
            folder = rundir / folder_name(cell.index, cell.prepared.cell)
            tell = partial(observer.phase, cell.index)
            async with guest_slot(count=max(jobs, core_count()), on_wait=partial(tell, "waiting for a guest slot")):
                outcome = await run_cell(cell.prepared, host=host, rundir=folder, progress=tell, on_verdict=on_verdict)
            outcomes[cell.index] = outcome
            observer.done(cell.index, outcome)

    async with LocalHost() as host, asyncio.TaskGroup() as group:
        for _ in range(min(_started_at_once(prepared, jobs), len(cells))):
            group.create_task(work(host))
    return [outcomes[index] for index in range(len(cells))]


def _started_at_once(cells: Sequence[Numbered], jobs: int) -> int:
    """Return how many cells may have been started: more than have a slot, if some wait in real time without one."""
    waiting = jobs > 1 and not all(cell.prepared.warped for cell in cells)
    return jobs * _WAITING if waiting else jobs


async def _prepare(cells: Sequence[Cell], observer: Observer) -> tuple[list[Numbered], dict[int, LackingError]]:
    """Prepare cells; return those that can run, and of the others what is lacking."""
    prepared: list[Numbered] = []
    lacking: dict[int, LackingError] = {}
    for index, cell in enumerate(cells):
        try:
            ready = await asyncio.to_thread(prepare, cell, progress=observer.preparing)
            prepared.append(Numbered(index=index, prepared=ready))
        except LackingError as error:
            if given_by_hand(cell, error.lacking):
                raise
            lacking[index] = error
    return prepared, lacking


def given_by_hand(cell: Cell, name: str) -> bool:
    """Return whether a name stands in what was given for a cell outside a case: there it may be a slip."""
    return cell.expected is None and name in json.dumps(cell.parameters)


def folder_name(index: int, cell: Cell) -> str:
    """Return the name of a cell's rundir: its place, then what it is."""
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
    if any(outcome.verdict is Verdict.SKIP and outcome.role is not Role.EXTRA for outcome in outcomes):
        return CaseResult.SKIPPED
    ran = [outcome for outcome in outcomes if outcome.verdict is not Verdict.SKIP]
    if not ran:
        return CaseResult.SKIPPED
    return CaseResult.REPRODUCED if all(outcome.as_expected for outcome in ran) else CaseResult.DIFFERS


def _expected_seconds(cell: Numbered) -> float:
    """Guess how long a cell takes: an ignored request lasts until its deadline, pciehp's button seven seconds."""
    wanted = cell.prepared.cell
    if wanted.expected is Verdict.BAD:
        return 40.0
    return 10.0 if wanted.parameters.get("hotplug") == "native" else 5.0

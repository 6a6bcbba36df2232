"""What `testbed run` runs: the cells of all its cases in one queue, each case reported when its last cell is done."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.markup import escape

from testbed.campaign.run import places, run_cells, summarize
from testbed.cli.terminal import write_text
from testbed.report.json_file import to_json
from testbed.report.terminal import LiveProgress, print_cases, print_findings, print_report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.campaign.cell.run import OnVerdict
    from testbed.cli.frame import CommandFrame
    from testbed.model.outcome import Cell, Outcome, RunReport


@dataclass(frozen=True, kw_only=True)
class Work:
    """A case, or a scenario's one cell, to run."""

    case: str | None
    cells: list[Cell]
    title: str

    @property
    def name(self) -> str:
        """Return what its folder is called."""
        return self.case or self.cells[0].scenario.rpartition(":")[2]


def run_works(
    works: Sequence[Work], frame: CommandFrame, *, jobs: int, verbose: bool, on_verdict: OnVerdict | None
) -> list[RunReport]:
    """Run all cells, `jobs` at a time, and return the reports in the order of the works.

    Cells of different cases share a boot, and no core waits for the last cell of a case. Raises InputError for the
    first cell whose input cannot be used, before the first guest starts.
    """
    cells = [cell for work in works for cell in work.cells]
    with LiveProgress(cells, frame.console) as progress:
        reports = _Reports(works, progress, frame, verbose=verbose)
        outcomes = frame.run(
            run_cells(
                cells,
                place=reports.place,
                jobs=jobs,
                observer=reports,
                on_planned=progress.planned,
                on_verdict=on_verdict,
            )
        )
    found = iter(outcomes)
    made = [summarize(work.case, [next(found) for _ in work.cells]) for work in works]
    print_cases(made, frame.console)
    return made


class _Reports:
    """An observer that prints what comes of each work."""

    def __init__(self, works: Sequence[Work], progress: LiveProgress, frame: CommandFrame, *, verbose: bool) -> None:
        self.preparing = progress.preparing
        self.phase = progress.phase
        self._progress = progress
        self._console = frame.console
        self._verbose = verbose
        self._alone = len(works) == 1
        #: of every cell: its work, the work's folder, and its place there
        self._homes = [
            (work, folder, at)
            for work, folder in zip(works, _folders(frame.folder, works), strict=True)
            for at in range(len(work.cells))
        ]
        self._outcomes: dict[Path, dict[int, Outcome]] = {}
        if self._alone:
            self._say_title(works[0])

    def place(self, index: int) -> Path:
        """Return the rundir of a cell."""
        work, folder, at = self._homes[index]
        return places(folder, work.cells)(at)

    def done(self, index: int, outcome: Outcome) -> None:
        """Show a finished cell, and report its work if it was the last."""
        self._progress.done(index, outcome)
        work, folder, at = self._homes[index]
        outcomes = self._outcomes.setdefault(folder, {})
        outcomes[at] = outcome
        if len(outcomes) == len(work.cells):
            self._report(work, folder, [outcomes[each] for each in range(len(work.cells))])

    def _report(self, work: Work, folder: Path, outcomes: Sequence[Outcome]) -> None:
        if not self._alone:
            self._say_title(work)
        report = summarize(work.case, outcomes)
        verbose = self._verbose or work.case is None  # for a user's own question, report everything
        if verbose:
            for outcome in outcomes:
                print_findings(outcome, self._console)
        print_report(report, self._console, verbose=verbose)
        write_text(to_json([report]), folder / "report.json")

    def _say_title(self, work: Work) -> None:
        self._console.print(f"[bold]{escape(work.title)}[/bold]", highlight=False)


def _folders(rundir: Path, works: Sequence[Work]) -> list[Path]:
    """Return a folder of its own for each: of one scenario there may be several cells."""
    folders: dict[Path, None] = {}
    for work in works:
        names = itertools.chain([work.name], (f"{work.name}-{number}" for number in itertools.count(2)))
        folders[next(rundir / name for name in names if rundir / name not in folders)] = None
    return list(folders)

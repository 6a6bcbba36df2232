"""Run a matrix: what has no result yet is planned and handed to an executor; results go to the disk as they come."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from testbed.campaign.matrix.results import Results, expected_seconds
from testbed.campaign.matrix.tally import Tally
from testbed.campaign.run import folder_name, guess_seconds, plan_runs
from testbed.model.matrix import MatrixReport, MatrixRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.campaign.execution.executor import Executor
    from testbed.campaign.execution.job_queue import JobQueue
    from testbed.campaign.matrix.grid import Grid
    from testbed.model.outcome import Cell, Outcome

#: the folder of the cells' rundirs
CELLS = "matrix"
#: how many earlier runs are looked at for how long cells take
_EARLIER = 5


class MatrixObserver(Protocol):
    """An observer of a matrix's progress; runs are named by their index in it."""

    def preparing(self, message: str) -> None:
        """Note what is done before any cell starts."""

    def planned(self, matrix: Grid, queue: JobQueue, done: Tally, *, guests: int) -> None:
        """Receive what will be run, and what is already done: earlier, or because it cannot run."""

    def phase(self, index: int, phase: str) -> None:
        """Note that a run entered a phase."""

    def done(self, index: int, outcome: Outcome) -> None:
        """Note that a run has its outcome."""


@dataclass(frozen=True, kw_only=True)
class MatrixCampaign:
    """A matrix, who runs it, and where its results are."""

    matrix: Grid
    executor: Executor
    folder: Path
    results: Results

    async def run(self, observer: MatrixObserver) -> None:
        """Run what has no result yet."""
        async with self.executor:
            await self._run(observer)

    async def _run(self, observer: MatrixObserver) -> None:
        keeper = _Keeper(self, observer)
        seconds = expected_seconds(earlier_folders(self.folder))
        place = partial(cell_folder, self.folder, self.matrix)
        queue = await plan_runs(
            self.executor,
            self.matrix,
            (index for index in range(len(self.matrix)) if index not in self.results),
            place=place,
            observer=keeper,
            guess=partial(_guess, seconds),
        )
        tally = Tally()
        for run in self.results.runs():
            tally.count(run.outcome, unstable=bool(run.row.unstable))
        observer.planned(self.matrix, queue, tally, guests=self.executor.guests)
        await self.executor.execute(self.matrix, queue, place=place, observer=keeper)

    def report_head(self) -> MatrixReport:
        """Return the report without its rows and cells, which may be many: `results` has them one by one."""
        return MatrixReport(
            title=self.matrix.title,
            axes=self.matrix.axis_labels,
            complete=len(self.results) == len(self.matrix),
            rows=[],
            cells=[],
        )


class _Keeper:
    """Writes outcomes down before others hear of them."""

    def __init__(self, campaign: MatrixCampaign, observer: MatrixObserver) -> None:
        self.preparing = observer.preparing
        self.phase = observer.phase
        self._campaign = campaign
        self._observer = observer

    def done(self, index: int, outcome: Outcome) -> None:
        """Write the outcome down, once."""
        if index in self._campaign.results:
            return
        self._campaign.results.add(MatrixRun(index=index, row=self._campaign.matrix.row(index), outcome=outcome))
        self._observer.done(index, outcome)


def cell_folder(folder: Path, cells: Sequence[Cell], index: int) -> Path:
    """Return the rundir of a run."""
    return folder / CELLS / folder_name(index, cells[index])


def earlier_folders(folder: Path) -> list[Path]:
    """Return the last rundirs beside one, and itself, the latest last."""
    beside = sorted(Path(entry.path) for entry in os.scandir(folder.parent) if entry.is_dir())
    return [*[each for each in beside if each.name < folder.name][-_EARLIER:], folder]


def _guess(seconds: dict[str, float], cell: Cell) -> float:
    return seconds.get(cell.id) or guess_seconds(cell)

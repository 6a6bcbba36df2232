"""A matrix for people: a live table while it runs, a grid of verdicts, and what changed since another."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from testbed.campaign.matrix.baseline import Summary, axes_of, summarized
from testbed.campaign.matrix.tally import Tally, contradicts, is_fine
from testbed.model.outcome import Verdict
from testbed.report.folded import Folded
from testbed.report.live import LiveView
from testbed.report.terminal import coloured
from testbed.report.time_left import TimeLeft, span

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from testbed.campaign.execution.job_queue import JobQueue
    from testbed.campaign.matrix.baseline import Key
    from testbed.campaign.matrix.grid import Grid
    from testbed.model.matrix import CellChange, MatrixComparison, MatrixRow, MatrixRun
    from testbed.model.outcome import Outcome

#: rows of a grid, running cells and reasons that are shown
_ROWS, _RUNNING, _REASONS = 60, 16, 20
#: columns of verdicts beside each other
_COLUMNS = 8
#: between columns without lines
_GAP = (0, 2, 0, 0)
#: the widest mark that is usual: `bad 2/3 !`
_MARK = 9


class MatrixProgress(LiveView[int]):
    """Shows the progress of a matrix; on a terminal in place, elsewhere a line for each finished cell."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, refresh_per_second=4)
        self._matrix: Grid | None = None
        self._left: TimeLeft | None = None
        self._tally = Tally()
        #: what was done before the first cell ran
        self.before = Tally()
        self._began = time.monotonic()

    def preparing(self, message: str) -> None:
        """Say what is done before any cell starts."""
        self._console.print(f"[dim]{escape(message)}[/dim]", highlight=False)

    def planned(self, matrix: Grid, queue: JobQueue, done: Tally, *, guests: int) -> None:
        """Say how many cells and boots there will be."""
        self._matrix, self._left, self._tally = matrix, TimeLeft(queue), done
        self.before = replace(done, verdicts=done.verdicts.copy())
        self._began = time.monotonic()
        already = f", {done.runs} done before" if done.runs else ""
        boots = "no boot" if queue.boots == 0 else f"{queue.boots} boot{'s' * (queue.boots != 1)}"
        self._console.print(f"{_cells(len(matrix))}{already}: {boots}, {_guests(guests)} at once", highlight=False)

    def phase(self, index: int, phase: str) -> None:
        """Show the phase of a running cell."""
        self._enters(index, phase)

    def done(self, index: int, outcome: Outcome) -> None:
        """Count a finished cell; without a terminal, print it."""
        self._running.pop(index, None)
        if self._matrix is None:  # while it is still being planned: `planned` brings the count
            return
        unstable = self._matrix.row(index).unstable
        self._tally.count(outcome, unstable=bool(unstable))
        if not self._in_place:
            self._console.print(self._line(outcome, unstable), highlight=False)

    @property
    def seconds(self) -> float:
        """Return the wall seconds since the first cell could run."""
        return time.monotonic() - self._began

    def _line(self, outcome: Outcome, unstable: str) -> str:
        total = len(self._matrix or ())
        mark = f" [bold]({escape(outcome.disagreement)})[/bold]" if contradicts(outcome) and not unstable else ""
        return (
            f"{escape(f'[{self._tally.runs}/{total}]')} {coloured(outcome.verdict)}{mark} {escape(outcome.id)} "
            f"[dim]{outcome.wall_seconds:.1f} s[/dim]"
        )

    def __rich__(self) -> Group:
        now, total = time.monotonic(), len(self._matrix or ())
        if total == 0:
            return Group(Spinner("dots", Text("planning")))
        left = self._left.told(done=self._tally.runs, running=len(self._running)) if self._left else ""
        told = f"{self._tally.runs}/{total}  {_counts(self._tally)}{left}"
        head = Table.grid(padding=(0, 2, 0, 0))
        head.add_row(ProgressBar(total=total, completed=self._tally.runs, width=30), Text.from_markup(told))
        rows = [
            Spinner("dots", Text(f"{self._id(index)}: {phase}, {now - started:.0f} s", overflow="ellipsis"))
            for index, (phase, started) in list(self._running.items())[:_RUNNING]  # drawn by a thread
        ]
        return Group(head, *rows)

    def _id(self, index: int) -> str:
        return self._matrix[index].id if self._matrix else ""


def print_matrix(matrix: Grid, runs: Iterable[MatrixRun], console: Console, *, seconds: float, before: Tally) -> Tally:
    """Print the grid of verdicts, what contradicts its expectation and why, and the counts; return these.

    `seconds` is how long it took to run what was not done `before`.
    """
    tally, told = Tally(), _Reasons()
    cells = summarized(_watched(runs, tally, told))
    grid = _Grid(cells, console.width)
    if len(grid.rows) <= _ROWS:
        console.print(grid.table(cells))
    else:
        console.print(f"[dim]{len(grid.rows)} rows: too many to show; --json has them all[/dim]")
    told.print(console)
    console.print(_summary(matrix, tally), highlight=False)
    if (ran := tally.runs - before.runs) > 0 and seconds > 0:
        boots = (tally.boots - before.boots) * 60 / seconds
        speed = f"{span(seconds)}: {_rate(boots)} boots and {_rate(ran * 60 / seconds)} cells a minute"
        console.print(f"[dim]{speed}[/dim]", highlight=False)
    return tally


def print_comparison(comparison: MatrixComparison, console: Console) -> None:
    """Print what changed since the baseline."""
    differing = _differing([*(each.axes for each in comparison.changed), *comparison.new, *comparison.gone])
    if comparison.changed:
        table = Table(title="changed since the baseline", title_justify="left", box=None, pad_edge=False, padding=_GAP)
        for heading in ("before", "now", "", "cell"):
            table.add_column(heading, no_wrap=heading != "cell")
        for each in sorted(comparison.changed, key=lambda change: not change.regression):
            said = Folded(f"{_where(each.axes, differing)}\n  {_first_line(each.reason)}", indent=4)
            table.add_row(coloured(each.before), coloured(each.now), _kind(each), said)
        console.print(table)
    fine = [axes for axes in comparison.new if axes not in comparison.new_bad]
    for name, cells in (
        ("[red]new, and not as expected[/red]", comparison.new_bad),
        ("new", fine),
        ("gone", comparison.gone),
    ):
        for axes in cells[:_REASONS]:
            console.print(f"{name}: {escape(_where(axes, differing))}", highlight=False)
        if len(cells) > _REASONS:
            console.print(f"{name}: and {len(cells) - _REASONS} more", highlight=False)
    regressions = len(comparison.regressions)
    colour = "red" if regressions else "green"
    told = f"{regressions} regression{'s' * (regressions != 1)}" if regressions else "no regression"
    new = f"{len(comparison.new)} new"
    if comparison.new_bad:
        new += f" ([red]{len(comparison.new_bad)} not as expected[/red])"
    console.print(
        f"against the baseline: [{colour}]{told}[/{colour}], {len(comparison.changed)} changed, {comparison.same} the "
        f"same, {new}, {len(comparison.gone)} gone",
        highlight=False,
    )


class _Reasons:
    """Why cells are not what they should be, each reason once."""

    def __init__(self) -> None:
        self._cells: Counter[tuple[Verdict, str, str]] = Counter()
        self._first: dict[tuple[Verdict, str, str], str] = {}

    def add(self, row: MatrixRow, outcome: Outcome) -> None:
        """Note a run."""
        if (is_fine(outcome) and outcome.verdict is not Verdict.SKIP) or row.unstable:
            return
        key = (outcome.verdict, outcome.reason, outcome.hint or "")
        self._cells[key] += 1
        self._first.setdefault(key, outcome.id)

    def print(self, console: Console) -> None:
        """Print the most frequent."""
        for (verdict, reason, hint), count in self._cells.most_common(_REASONS):
            more = f" and {count - 1} more" if count > 1 else ""
            where = escape(f"{self._first[verdict, reason, hint]}{more}")
            console.print(f"{coloured(verdict)} {where}: {escape(_first_line(reason))}", highlight=False)
            if hint:
                console.print(f"    [yellow]{escape(hint)}[/yellow]", highlight=False)
        if len(self._cells) > _REASONS:
            console.print(f"and {len(self._cells) - _REASONS} more reasons", highlight=False)


class _Grid:
    """Verdicts on two axes: the one with the most values that fit beside each other, and all others."""

    def __init__(self, cells: dict[Key, Summary], width: int) -> None:
        places = [axes_of(key) for key in cells]
        values = {axis: list(dict.fromkeys(each[axis] for each in places)) for axis in (places[0] if places else {})}
        varying = [axis for axis in values if len(values[axis]) > 1]
        fitting = [
            axis for axis in varying if len(values[axis]) <= _COLUMNS and _columns_width(values[axis]) < width / 2
        ]
        self.across = max(fitting, key=lambda axis: len(values[axis]), default=None) if len(varying) > 1 else None
        self.down = [axis for axis in varying if axis != self.across] or list(values)[:1]
        self.columns = values[self.across] if self.across else ["verdict"]
        self.rows = list(dict.fromkeys(self._row(each) for each in places))

    def _row(self, axes: dict[str, str]) -> tuple[str, ...]:
        return tuple(axes[axis] for axis in self.down)

    def table(self, cells: dict[Key, Summary]) -> Table:
        """Return the grid."""
        table = Table(show_edge=False, pad_edge=False)
        for axis in self.down:
            table.add_column(axis)
        for column in self.columns:
            table.add_column(escape(column or "''"), no_wrap=True)
        there = {self._place(axes_of(key)): summary for key, summary in cells.items()}
        for row in self.rows:
            marks = [_mark(there.get((row, column))) for column in self.columns]
            table.add_row(*(Folded(label or "''") for label in row), *marks)
        return table

    def _place(self, axes: dict[str, str]) -> tuple[tuple[str, ...], str]:
        return self._row(axes), axes[self.across] if self.across else "verdict"


def _columns_width(names: Sequence[str]) -> int:
    """Return how wide columns of verdicts with these names are."""
    return sum(max(len(name), _MARK) + len(" │ ") for name in names)


def _mark(summary: Summary | None) -> str:
    if summary is None:
        return ""
    flag = " [dim](unstable)[/dim]" if summary.unstable else " [bold]![/bold]" if summary.contradicts else ""
    split = "" if summary.agreeing == summary.runs else f" {summary.agreeing}/{summary.runs}"
    return f"{coloured(summary.verdict)}{split}{flag}"


def _watched(runs: Iterable[MatrixRun], tally: Tally, told: _Reasons) -> Iterable[tuple[MatrixRow, Outcome]]:
    for run in runs:
        tally.count(run.outcome, unstable=bool(run.row.unstable))
        told.add(run.row, run.outcome)
        yield run.row, run.outcome


def _summary(matrix: Grid, tally: Tally) -> str:
    parts = [f"[bold]{_cells(tally.runs)}[/bold]: {_counts(tally)}"]
    if tally.unexpected:
        parts.append(f"[bold]{tally.unexpected} not as expected (!)[/bold]")
    if tally.unstable:
        parts.append(f"{tally.unstable} unstable, not judged")
    if missing := len(matrix) - tally.runs:
        parts.append(f"{missing} not run")
    return "; ".join(parts)


def _counts(tally: Tally) -> str:
    told = [f"{tally.verdicts[verdict]} {coloured(verdict)}" for verdict in Verdict if tally.verdicts[verdict]]
    return ", ".join(told) or "none done"


def _kind(change: CellChange) -> str:
    if change.regression:
        return "[red]regression[/red]"
    return "[dim]unstable[/dim]" if change.unstable else ""


def _differing(cells: Sequence[dict[str, str]]) -> list[str]:
    """Return the axes on which cells differ, and the scenario."""
    axes = list(cells[0]) if cells else []
    return [axis for axis in axes if axis == "scenario" or len({each.get(axis) for each in cells}) > 1]


def _where(axes: dict[str, str], differing: Sequence[str]) -> str:
    return " ".join(axes.get(axis) or "''" for axis in differing)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _cells(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"


def _guests(count: int) -> str:
    return f"{count} guest{'s' * (count != 1)}"


def _rate(a_minute: float) -> str:
    return f"{a_minute:.0f}" if a_minute >= 10 else f"{a_minute:.1f}"

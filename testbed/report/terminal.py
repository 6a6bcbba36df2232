"""Outcomes for people: a live line per running cell, a table at the end, and the evidence on demand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from testbed.model.outcome import CaseResult, Verdict
from testbed.report.live import LiveView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.outcome import Cell, Outcome, RunReport

_COLOURS = {Verdict.GOOD: "green", Verdict.BAD: "red", Verdict.SKIP: "yellow", Verdict.BROKEN: "magenta"}
_RESULT_COLOURS = {
    CaseResult.REPRODUCED: "green",
    CaseResult.DIFFERS: "red",
    CaseResult.SKIPPED: "yellow",
    CaseResult.BROKEN: "magenta",
}


class LiveProgress(LiveView[int]):
    """Shows what is running; on a terminal in place, elsewhere a line for each finished cell."""

    def __init__(self, cells: Sequence[Cell], console: Console) -> None:
        super().__init__(console)
        self._cells = cells
        self._finished = 0

    def preparing(self, message: str) -> None:
        """Say what is done before any cell starts."""
        self._console.print(f"[dim]{escape(message)}[/dim]")

    def phase(self, index: int, phase: str) -> None:
        """Show the phase of a running cell."""
        self._enters(index, phase)

    def done(self, index: int, outcome: Outcome) -> None:
        """Print a finished cell."""
        self._running.pop(index, None)
        self._finished += 1
        mark = "" if _agrees(outcome) else f" [bold](expected {escape(_expected(outcome))})[/bold]"
        place = f"[{self._finished}/{len(self._cells)}]"
        self._console.print(
            f"{escape(place)} {coloured(outcome.verdict)}{mark} {escape(outcome.id)} "
            f"[dim]{outcome.wall_seconds:.1f} s[/dim]",
            highlight=False,
        )

    def __rich__(self) -> Group:
        now = time.monotonic()
        rows = [
            Spinner("dots", Text(f"{self._cells[index].id}: {phase}, {now - started:.0f} s"))
            for index, (phase, started) in list(self._running.items())  # drawn by a thread
        ]
        return Group(*rows)


def print_report(report: RunReport, console: Console) -> None:
    """Print the table of a run, what mends the cells that could not be judged, and the result."""
    console.print(_table(report))
    for outcome in report.cells:
        if outcome.hint:
            console.print(f"[yellow]{escape(outcome.id)}[/yellow]: {escape(outcome.hint)}", highlight=False)
    for outcome in report.cells:
        if not _agrees(outcome) and outcome.verdict is not Verdict.SKIP:
            console.print(f"[bold]differs[/bold] {escape(outcome.id)}: {escape(outcome.disagreement)}", highlight=False)
    colour = _RESULT_COLOURS[report.result]
    if report.case:
        console.print(f"case [bold]{escape(report.case)}[/bold]: [{colour}]{report.result}[/{colour}]")


def print_findings(outcome: Outcome, console: Console) -> None:
    """Print the evidence of one cell."""
    table = Table(title=escape(outcome.id), title_justify="left", show_edge=False)
    for heading in ("subject", "expected", "observed", "evidence"):
        table.add_column(heading, overflow="fold")
    for finding in outcome.findings:
        table.add_row(
            *(escape(text) for text in (finding.subject, finding.expected, finding.observed, finding.evidence))
        )
    console.print(table)
    console.print(f"[dim]{escape(outcome.rundir)}[/dim]", highlight=False, soft_wrap=True)


def _table(report: RunReport) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("cell", overflow="fold", ratio=4)
    table.add_column("verdict")
    table.add_column("expected")
    table.add_column("guest s", justify="right")
    table.add_column("wall s", justify="right")
    table.add_column("reason", overflow="fold", ratio=6)
    for outcome in report.cells:
        expected = escape(_expected(outcome))
        table.add_row(
            escape(outcome.id),
            coloured(outcome.verdict),
            expected if _agrees(outcome) else f"[bold]{expected}[/bold]",
            "-" if outcome.guest_seconds is None else f"{outcome.guest_seconds:.1f}",
            f"{outcome.wall_seconds:.1f}",
            escape(outcome.reason),
        )
    return table


def _expected(outcome: Outcome) -> str:
    """Return what is documented: the verdict, with its outcome where the cell has another."""
    if outcome.expected is None:
        return ""
    other = outcome.expected_outcome and outcome.expected_outcome != outcome.outcome
    return f"{outcome.expected} ({outcome.expected_outcome})" if other else str(outcome.expected)


def _agrees(outcome: Outcome) -> bool:
    """Return whether a verdict contradicts none that is documented."""
    return outcome.expected is None or outcome.as_expected


def coloured(verdict: Verdict) -> str:
    """Return a verdict in its colour."""
    return f"[{_COLOURS[verdict]}]{verdict}[/{_COLOURS[verdict]}]"

"""Outcomes for people: a live line per running cell, a table at the end, and the evidence on demand."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from testbed.model.outcome import CaseResult, Verdict
from testbed.report.folded import Folded
from testbed.report.live import LiveView
from testbed.report.time_left import TimeLeft

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from testbed.campaign.execution.job_queue import JobQueue
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
        self._left: TimeLeft | None = None

    def preparing(self, message: str) -> None:
        """Say what is done before any cell starts."""
        self._console.print(f"[dim]{escape(message)}[/dim]")

    def planned(self, queue: JobQueue) -> None:
        """Hear what there is to do."""
        self._left = TimeLeft(queue)

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
        rows: list[RenderableType] = [
            Spinner("dots", Text(f"{self._cells[index].id}: {phase}, {now - started:.0f} s"))
            for index, (phase, started) in list(self._running.items())  # drawn by a thread
        ]
        left = self._left.told(done=self._finished, running=len(self._running)) if self._left else ""
        if left:
            rows.append(Text(f"{self._finished}/{len(self._cells)}{left}", style="dim"))
        return Group(*rows)


def print_report(report: RunReport, console: Console, *, verbose: bool = False) -> None:
    """Print a line a cell, the reason of what is not good, hints for what could not be judged, and the result.

    `verbose` prints every reason.
    """
    console.print(verdict_table("cell", [_row(outcome, verbose=verbose) for outcome in report.cells]))
    for outcome in report.cells:
        if outcome.hint:
            console.print(f"[yellow]{escape(outcome.id)}[/yellow]: {escape(outcome.hint)}", highlight=False)
    for outcome in report.cells:
        if not _agrees(outcome):
            console.print(Folded(f"differs {outcome.id}: {outcome.disagreement}", style="bold", indent=4))
    colour = _RESULT_COLOURS[report.result]
    if report.case:
        console.print(f"case [bold]{escape(report.case)}[/bold]: [{colour}]{report.result}[/{colour}]")


def print_cases(reports: Iterable[RunReport], console: Console) -> None:
    """Print, of several cases, how many came to each result, and the names of those that were not reproduced."""
    names: dict[CaseResult, list[str]] = {result: [] for result in CaseResult}
    for report in reports:
        if report.case:
            names[report.result].append(report.case)
    if sum(map(len, names.values())) < 2:
        return
    for result, cases in names.items():
        if cases:
            told = "" if result is CaseResult.REPRODUCED else f": {', '.join(cases)}"
            colour = _RESULT_COLOURS[result]
            console.print(f"[{colour}]{len(cases)} {result}[/{colour}]{escape(told)}", highlight=False)


def print_findings(outcome: Outcome, console: Console) -> None:
    """Print the evidence of one cell."""
    console.print(Folded(outcome.id, style="italic", indent=4))
    if outcome.user_space:
        console.print(Folded(f"in {outcome.user_space}", style="dim", indent=4))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(ratio=1)
    table.add_column(ratio=3)
    for finding in outcome.findings:
        said = [Folded(f"{finding.observed} ({finding.evidence})")]
        if finding.expected not in ("", finding.observed):
            said.append(Folded(f"expected: {finding.expected}", style="dim"))
        table.add_row(Folded(f"  {finding.subject}", indent=2), Group(*said))
    console.print(table)
    console.print(f"[dim]{escape(outcome.rundir)}[/dim]", highlight=False, soft_wrap=True)


@dataclass(frozen=True, kw_only=True)
class VerdictRow:
    """One line of a table of verdicts."""

    verdict: Verdict
    name: str
    guest_seconds: float | None
    mark: str = ""  #: behind the verdict, plain
    reason: str = ""  #: below the name


def verdict_table(heading: str, rows: Iterable[VerdictRow]) -> Table:
    """Return verdicts, the guest's seconds, and what they are of: narrow things first, so that the rest may fold."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("verdict", no_wrap=True)
    table.add_column("guest s", no_wrap=True, justify="right")
    table.add_column(heading)
    for row in rows:
        said = [Folded(row.name, indent=4), *([Folded(f"  {row.reason}", indent=2)] if row.reason else [])]
        seconds = "-" if row.guest_seconds is None else f"{row.guest_seconds:.1f}"
        table.add_row(f"{coloured(row.verdict)}{escape(row.mark)}", seconds, Group(*said))
    return table


def _row(outcome: Outcome, *, verbose: bool) -> VerdictRow:
    told = verbose or outcome.verdict is not Verdict.GOOD or not _agrees(outcome)
    return VerdictRow(
        verdict=outcome.verdict,
        name=outcome.id,
        guest_seconds=outcome.guest_seconds,
        mark="" if _agrees(outcome) else " !",
        reason=outcome.reason if told else "",
    )


def _expected(outcome: Outcome) -> str:
    """Return what is documented: the verdict, with its outcome where the cell has another."""
    if outcome.expected is None:
        return ""
    other = outcome.expected_outcome and outcome.expected_outcome != outcome.outcome
    return f"{outcome.expected} ({outcome.expected_outcome})" if other else str(outcome.expected)


def _agrees(outcome: Outcome) -> bool:
    """Return whether a verdict contradicts none that is documented; a cell that this host cannot run does not."""
    return outcome.expected is None or outcome.as_expected or outcome.verdict is Verdict.SKIP


def coloured(verdict: Verdict) -> str:
    """Return a verdict in its colour."""
    return f"[{_COLOURS[verdict]}]{verdict}[/{_COLOURS[verdict]}]"

"""`testbed report`: reports of runs that are over, from their rundirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from testbed.campaign.record.rundir import find_cells, read_case, read_outcome, unfinished_cells
from testbed.campaign.run import summarize
from testbed.cli.options import ReportOptions, spliced
from testbed.cli.terminal import err, out
from testbed.report.json_file import to_json
from testbed.report.terminal import print_findings, print_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.outcome import Outcome, RunReport


@spliced
def report(
    rundirs: Annotated[list[Path], typer.Argument(metavar="RUNDIR...", show_default=False)],
    wanted: ReportOptions,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every finding and its evidence.")] = False,
) -> None:
    """Report on finished runs: every cell at or below the rundirs, as a table or in files."""
    wanted.check()
    outcomes = [read_outcome(cell) for cell in find_cells(rundirs)]
    for folder in unfinished_cells(rundirs):
        err.print(f"[yellow]left out[/yellow]: {escape(str(folder))}: has no outcome", highlight=False, soft_wrap=True)
    reports = _reports(outcomes)
    wanted.write(outcomes, json=to_json(reports))
    if not wanted.json and not wanted.for_cells:
        for each in reports:
            if verbose:
                for outcome in each.cells:
                    print_findings(outcome, out)
            print_report(each, out, verbose=verbose)


def _reports(outcomes: Sequence[Outcome]) -> list[RunReport]:
    """Return a report for each case or list of scenarios, as the run wrote it."""
    folders: dict[Path, list[Outcome]] = {}
    for outcome in outcomes:
        folders.setdefault(Path(outcome.rundir).parent, []).append(outcome)
    return [summarize(read_case(folder), cells) for folder, cells in folders.items()]

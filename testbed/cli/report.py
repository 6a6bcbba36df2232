"""`testbed report`: reports of runs that are over, from their rundirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from testbed.campaign.atlas.atlas import RECORD
from testbed.campaign.atlas.survey import recorded_atlas
from testbed.campaign.record.rundir import find_cells, read_case, read_outcome, unfinished_cells
from testbed.campaign.run import summarize
from testbed.cli.atlas_page import AtlasPage, write_page
from testbed.cli.options import ReportOptions, spliced
from testbed.cli.terminal import check_writable, err, out
from testbed.model.errors import InputError
from testbed.report.atlas import print_atlas
from testbed.report.json_file import to_json
from testbed.report.terminal import print_cases, print_findings, print_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.outcome import Outcome, RunReport


@spliced
def report(
    rundirs: Annotated[list[Path], typer.Argument(metavar="RUNDIR...", show_default=False)],
    wanted: ReportOptions,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every finding and its evidence.")] = False,
    page: AtlasPage = None,
) -> None:
    """Report on finished runs: every cell at or below the rundirs, as a table or in files; an atlas as one."""
    wanted.check()
    atlases = [folder for folder in rundirs if (folder / RECORD).is_file()]
    files = bool(wanted.json or wanted.for_cells)
    if page is not None:
        _write_page(atlases, page)
    elif atlases == rundirs and not files:
        for folder in atlases:
            print_atlas(recorded_atlas(folder), out)
        return
    if files or page is None:
        _report_cells(rundirs, wanted, verbose=verbose, files=files)


def _report_cells(rundirs: Sequence[Path], wanted: ReportOptions, *, verbose: bool, files: bool) -> None:
    """Write or print what the cells at and below the rundirs gave."""
    outcomes = [read_outcome(cell) for cell in find_cells(rundirs)]
    for folder in unfinished_cells(rundirs):
        err.print(
            f"[yellow]left out[/yellow]: {escape(str(folder))}: no outcome in it", highlight=False, soft_wrap=True
        )
    reports = _reports(outcomes)
    wanted.write(outcomes, json=to_json(reports))
    if files:
        return
    for each in reports:
        if verbose:
            for outcome in each.cells:
                print_findings(outcome, out)
        print_report(each, out, verbose=verbose)
    print_cases(reports, out)


def _write_page(atlases: Sequence[Path], page: Path) -> None:
    check_writable(page)
    if len(atlases) != 1:
        raise InputError(f"--page {page}: needs the rundir of one atlas", hint="other reports: --html, --junit, --json")
    write_page(recorded_atlas(atlases[0]), page)


def _reports(outcomes: Sequence[Outcome]) -> list[RunReport]:
    """Return a report for each case or list of scenarios, as the run wrote it."""
    folders: dict[Path, list[Outcome]] = {}
    for outcome in outcomes:
        folders.setdefault(Path(outcome.rundir).parent, []).append(outcome)
    return [summarize(read_case(folder), cells) for folder, cells in folders.items()]

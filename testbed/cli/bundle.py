"""`testbed bundle`: one archive of a cell, to attach to a bug report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from testbed.campaign.record.bundle import SUFFIX, write_bundle
from testbed.campaign.record.rundir import find_cells, read_outcome
from testbed.cli.terminal import check_writable, err, out
from testbed.model.errors import InputError
from testbed.report.html_page import html_page


def bundle(
    rundir: Annotated[Path, typer.Argument(metavar="RUNDIR", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=f"The archive, a {SUFFIX} file; by default named after the cell."),
    ] = None,
) -> None:
    """Pack one cell for a bug report: image, logs, report, and a reproduce.sh that needs only QEMU and socat."""
    cell = _only_cell(rundir)
    outcome = read_outcome(cell)
    file = output or Path(f"testbed-{cell.name}{SUFFIX}")
    check_writable(file)
    write_bundle(outcome, file, report=html_page([outcome]), warn=_warn)
    size = file.stat().st_size / (1 << 20)
    out.print(f"{escape(str(file))}: {size:.1f} MiB", highlight=False, soft_wrap=True)


def _only_cell(rundir: Path) -> Path:
    cells = find_cells([rundir])
    if len(cells) > 1:
        raise InputError(
            f"bundle of {rundir}: it holds {len(cells)} cells; a bundle packs one",
            hint=f"name one, for example: testbed bundle '{cells[0]}'",
        )
    return cells[0]


def _warn(message: str) -> None:
    err.print(f"[yellow]incomplete[/yellow]: {escape(message)}", highlight=False, soft_wrap=True)

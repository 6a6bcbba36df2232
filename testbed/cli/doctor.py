"""`testbed doctor`: whether this host is ready, and what fixes it."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from testbed.cli.options import PathName, QemuName, Verbose
from testbed.cli.terminal import out, plain
from testbed.doctor import Check, State, examine, is_ready
from testbed.report.folded import Folded

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCHEMA = 1
#: checks of one kind that are shown one by one though nothing is wrong
_FEW = 4
_COLOURS = {State.OK: "green", State.NOTE: "yellow", State.BAD: "red"}


def doctor(
    qemu: QemuName = "",
    path: PathName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Check whether this host is ready; name what is missing or half-working, and the command that fixes it.

    Exits with 0 if nothing is bad, else with 1. A note does not count.
    """
    checks = examine(qemu)
    if as_json:
        found = {"schema": _SCHEMA, "ready": is_ready(checks), "checks": [asdict(check) for check in checks]}
        plain(json.dumps(found, indent=1))
    else:
        _print(checks if verbose else _counted(checks))
    raise typer.Exit(0 if is_ready(checks) else 1)


def _counted(checks: Sequence[Check]) -> list[Check]:
    """Return checks of which many alike that are ok are one."""
    shown: list[Check] = []
    for (name, state), alike in groupby(checks, key=lambda check: (check.name, check.state)):
        some = list(alike)
        few = state is not State.OK or len(some) <= _FEW
        shown += some if few else [Check(name=name, state=state, message=f"{len(some)} fine; -v names them")]
    return shown


def _print(checks: Sequence[Check]) -> None:
    table = Table(show_header=False, show_edge=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for check in checks:
        colour = _COLOURS[check.state]
        table.add_row(f"[{colour}]{check.state}[/{colour}]", check.name, Folded(check.message))
    out.print(table, highlight=False)
    # below the table, unfolded and each once: they are to be pasted
    for name, mend in dict.fromkeys((each.name, each.mend) for each in checks if each.state is not State.OK):
        if mend:
            out.print(f"[bold]{name}[/bold]: {escape(mend)}", highlight=False, soft_wrap=True)
    out.print("this host is ready" if is_ready(checks) else "[red]this host is not ready[/red]")

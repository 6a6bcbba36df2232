"""`testbed doctor`: whether this host is ready, and what mends it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from testbed.cli.options import PathName, QemuName
from testbed.cli.terminal import out, plain
from testbed.doctor import Check, State, examine, is_ready

if TYPE_CHECKING:
    from collections.abc import Sequence

_SCHEMA = 1
_COLOURS = {State.OK: "green", State.NOTE: "yellow", State.BAD: "red"}


def doctor(
    qemu: QemuName = "",
    path: PathName = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check whether this host is ready; name what is missing or half-working, and the command that fixes it.

    Exits with 0 if nothing is bad, else with 1. A note is no obstacle.
    """
    checks = examine(qemu)
    if as_json:
        found = {"schema": _SCHEMA, "ready": is_ready(checks), "checks": [asdict(check) for check in checks]}
        plain(json.dumps(found, indent=1))
    else:
        _print(checks)
    raise typer.Exit(0 if is_ready(checks) else 1)


def _print(checks: Sequence[Check]) -> None:
    table = Table(show_header=False, show_edge=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        colour = _COLOURS[check.state]
        table.add_row(f"[{colour}]{check.state}[/{colour}]", check.name, escape(check.message))
    out.print(table, highlight=False)
    # below the table, unfolded: they are to be pasted
    for check in checks:
        if check.mend and check.state is not State.OK:
            out.print(f"[bold]{check.name}[/bold]: {escape(check.mend)}", highlight=False, soft_wrap=True)
    out.print("this host is ready" if is_ready(checks) else "[red]this host is not ready[/red]")

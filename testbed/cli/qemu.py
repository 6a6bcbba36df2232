"""`testbed qemu`: list the QEMUs of this host, fetch another, and remove it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from testbed.campaign.case import lack_a_qemu
from testbed.cli.terminal import err, out, plain, show_progress
from testbed.host.qemu import Qemu, probe
from testbed.host.qemu_catalog import default_path, known_qemus
from testbed.host.qemu_fetch import fetch_qemu
from testbed.host.qemu_store import fetched_qemus, remove_fetched
from testbed.model.catalog import CASES, unknown
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

qemu_app = typer.Typer(help="List this host's QEMUs, fetch another, remove it again.", no_args_is_help=True)

_SCHEMA = 1
#: what decides which cases a QEMU can run, as the binary itself says
_FEATURES: dict[str, Callable[[Qemu], bool]] = {
    "igb": lambda qemu: "igb" in qemu.drivers,
    "mapped-ram": lambda qemu: "mapped-ram" in qemu.capabilities,
    "seccomp": lambda qemu: qemu.sandbox,
}


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A QEMU, or why it cannot be used."""

    name: str
    path: Path
    qemu: Qemu | None
    error: str = ""

    @property
    def is_default(self) -> bool:
        """Return whether it is taken when none is asked for."""
        return self.path == default_path()

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        known = {"name": self.name, "path": str(self.path), "default": self.is_default, "error": self.error or None}
        if self.qemu is None:
            return known
        return known | {
            "version": self.qemu.version,
            "accelerators": list(self.qemu.accelerators),
            "pci_devices": len(self.qemu.pci_drivers),
            "features": {name: has(self.qemu) for name, has in _FEATURES.items()},
            "command": list(self.qemu.command),
        }


@qemu_app.command(name="list", epilog="Example: testbed qemu list --json")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False) -> None:
    """List this host's QEMUs and what they report they can do; * marks the default.

    It looks at PATH, the fetched ones, and what TESTBED_QEMU_PATH names: binaries or folders, separated by colons.
    """
    rows = [_asked(name, path) for name, path in known_qemus().items()]
    if as_json:
        plain(json.dumps({"schema": _SCHEMA, "qemus": [row.to_json() for row in rows]}, indent=1))
        return
    out.print(_table(rows) if rows else "none: testbed qemu fetch")
    for row in rows:
        if row.error:
            err.print(f"[yellow]{escape(row.name)}[/yellow]: {escape(row.error)}", highlight=False, soft_wrap=True)


@qemu_app.command(
    epilog="Examples:\n\n  testbed qemu fetch\n\n  testbed qemu fetch bookworm-backports\n\n"
    "  testbed qemu fetch --for-case all"
)
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="A suite of the configured apt archive; it becomes the QEMU's name. {codename} stands for the "
            "running release's. By default the release's backports.",
            show_default=False,
        ),
    ] = "",
    for_case: Annotated[
        list[str] | None,
        typer.Option(
            help="Fetch only if this case has cells that no QEMU here can run. Repeatable; 'all' means every case.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch the QEMU of another suite and unpack it into the cache: nothing is installed, no root is needed.

    Fetching again replaces it if the suite has another version.
    """
    if for_case and not _is_needed(for_case):
        return
    fetched = fetch_qemu(name, progress=show_progress)
    out.print(_table([_asked(fetched.name, fetched.prefix.binary)]))
    out.print(f"use it: --qemu {fetched.name}", highlight=False)


def _is_needed(cases: list[str]) -> bool:
    lacking = lack_a_qemu(CASES.names() if "all" in cases else cases)
    if lacking and not fetched_qemus():
        show_progress(f"another QEMU is needed by {', '.join(lacking)}")
        return True
    return False


@qemu_app.command()
def remove(name: Annotated[str, typer.Argument(help="A fetched QEMU, see: testbed qemu list.")]) -> None:
    """Remove a fetched QEMU; running instances are not disturbed."""
    if name not in fetched_qemus():
        raise unknown("fetched QEMU", name, fetched_qemus())
    remove_fetched(name, on_wait=lambda: show_progress("waiting for a fetch"))
    out.print(f"{escape(name)} removed", highlight=False)


def _asked(name: str, path: Path) -> _Row:
    try:
        return _Row(name=name, path=path, qemu=probe(path))
    except InputError as error:
        return _Row(name=name, path=path, qemu=None, error=error.message)


def _table(rows: list[_Row]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("QEMU", "version", "accelerators", "PCI devices", *_FEATURES):
        table.add_column(heading, overflow="fold")
    for row in rows:
        name = escape(row.name) + (" *" if row.is_default else "")
        table.add_row(name, *(_cells(row.qemu) if row.qemu else ("-", "cannot be used")))
    return table


def _cells(qemu: Qemu) -> tuple[str, ...]:
    return (
        escape(qemu.version.partition(" ")[0]),
        " ".join(qemu.accelerators),
        str(len(qemu.pci_drivers)),
        *("yes" if has(qemu) else "no" for has in _FEATURES.values()),
    )

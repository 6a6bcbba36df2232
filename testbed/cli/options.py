"""Options that several commands share, and the values they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.campaign import given
from testbed.host.accel import CHOICES
from testbed.host.qemu import find_qemu
from testbed.model.catalog import add_path, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.scenarios.scenario import Scenario

Params = Annotated[
    list[str] | None,
    typer.Option("--param", "-p", help="A template parameter, NAME=VALUE.", show_default=False),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--scenario-option", "-s", help="An option of the scenario, NAME=VALUE (see: testbed list).", show_default=False
    ),
]
Cmdline = Annotated[str, typer.Option(help="The guest's kernel command line under test, verbatim.")]
ImageName = Annotated[
    str,
    typer.Option(
        "--image",
        help="Image recipe (see: testbed list images), or a kernel: host, path:KERNEL[,MODULES], deb:FILE, rpm:FILE, "
        "apt:PACKAGE.",
    ),
]
QemuName = Annotated[
    str,
    typer.Option(
        "--qemu",
        help="QEMU: a path, the name of a fetched one (see: testbed qemu list), or any, the first that has what the "
        "machine needs; the one on PATH by default.",
        show_default=False,
    ),
]
PathName = Annotated[
    list[Path] | None,
    typer.Option(
        "--path",
        help="A folder with machine-templates/, guest-images/, scenarios/ or cases/ of your own; also TESTBED_PATH.",
        callback=lambda folders: [add_path(folder) for folder in folders or []],
        is_eager=True,
        show_default=False,
    ),
]
AccelName = Annotated[str, typer.Option("--accel", help="auto, kvm or tcg.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the outcomes there; - is stdout.")]
JunitFile = Annotated[
    Path | None, typer.Option("--junit", help="Write JUnit XML there, for a CI system.", show_default=False)
]
HtmlFile = Annotated[
    Path | None,
    typer.Option("--html", help="Write one HTML file there: every cell with its evidence.", show_default=False),
]
TraceFile = Annotated[
    Path | None, typer.Option("--trace", help="Write the timeline there, for Perfetto.", show_default=False)
]


def given_parameters(machine: str, params: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of a machine given as NAME=VALUE; raise InputError for an unknown or wrong one."""
    return given.given_parameters(machine, params)


def machine_with_parameters(text: str, params: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    """Return a template's name and the parameters of `NAME[PARAMETER=VALUE,...]`; raise InputError for a wrong one."""
    return given.machine_with_parameters(text, params)


def given_options(scenario: Scenario, options: Sequence[str]) -> dict[str, Any]:
    """Return the options of a scenario given as NAME=VALUE; raise InputError for an unknown or wrong one."""
    return given.options_of(scenario, options)


def known_qemu(name: str) -> str:
    """Return a QEMU's name; raise InputError if this host has none of that name, or it cannot be used."""
    if name:
        find_qemu(name)
    return name


def known_accel(name: str) -> Any:
    """Return an accelerator's name; raise InputError if there is none of that name."""
    if name not in CHOICES:
        raise unknown("accelerator", name, CHOICES)
    return name

"""`testbed compare`: scenarios on several machines, and what differs between them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from testbed.campaign.compare.columns import (
    Axes,
    ComparedMachine,
    column_cell,
    is_machine_type,
    make_columns,
    matching_types,
)
from testbed.campaign.compare.comparison import compare as compare_outcomes
from testbed.campaign.compare.comparison import exit_code
from testbed.campaign.run import run_cells
from testbed.campaign.trial_run import cell_qemu
from testbed.cli.options import (
    AccelName,
    HtmlFile,
    JunitFile,
    Options,
    Params,
    PathName,
    TraceFile,
    given_options,
    known_accel,
    known_qemu,
    machine_with_parameters,
)
from testbed.cli.reports import ReportFiles, write_reports
from testbed.cli.rundir import Rundir, new_rundir
from testbed.cli.signals import run_until_signalled
from testbed.cli.terminal import check_writable, err, out, write_text
from testbed.guest.facts import save_facts
from testbed.host.accel import Accel, choose_accel
from testbed.host.claim import claimed
from testbed.host.qemu import find_qemu
from testbed.host.qemu_catalog import ANY
from testbed.host.slots import core_count
from testbed.model.catalog import CASES, SCENARIOS, existing, unknown
from testbed.model.errors import InputError, LackingError
from testbed.report.compare import print_comparison
from testbed.report.json_file import comparison_to_json
from testbed.report.terminal import LiveProgress
from testbed.scenarios.scenario import all_scenarios, find_scenario, scenarios_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from testbed.model.comparison import Column
    from testbed.model.outcome import Cell


def compare(
    names: Annotated[list[str], typer.Argument(metavar="SCENARIO...", show_default=False)],
    machine: Annotated[
        list[str] | None,
        typer.Option(
            "--machine",
            "-m",
            help="A machine: a template, with its parameters in brackets ('q35\\[hotplug=native]'), or a pattern of "
            "machine types ('pc-q35-*'). Given more than once: compare them.",
            show_default=False,
        ),
    ] = None,
    param: Params = None,
    option: Options = None,
    cmdline: Annotated[
        list[str] | None,
        typer.Option(help="Kernel command line, verbatim. Given more than once: compare them.", show_default=False),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image", help="Image recipe or kernel, as in run. Given more than once: compare them.", show_default=False
        ),
    ] = None,
    qemu: Annotated[
        list[str] | None,
        typer.Option("--qemu", help="QEMU, as in run. Given more than once: compare them.", show_default=False),
    ] = None,
    accel: AccelName = "auto",
    path: PathName = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Guests at once; one a core.", show_default=False)
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the comparison there; - is stdout.")] = None,
    junit: JunitFile = None,
    html: HtmlFile = None,
    trace: TraceFile = None,
    rundir: Rundir = Path("testbed-runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Boot every guest; use and save no saved state.")] = False,
    time: Annotated[
        str, typer.Option("--time", help="How a guest's idle time passes under TCG: auto, real or warped.")
    ] = "auto",
    every_line: Annotated[
        bool, typer.Option("--all", help="Compare every line of the kernel log, not only those on PCI and ACPI.")
    ] = False,
) -> None:
    """Run scenarios on several machines, command lines, kernels or QEMUs, and show only what differs.

    Exits with 0 if nothing differs, with 1 if something does.
    """
    if time not in ("auto", "real", "warped"):
        raise unknown("--time", time, ("auto", "real", "warped"))
    scenarios = [each for name in dict.fromkeys(names) for each in _scenarios(name)]
    qemus = [known_qemu(name) for name in qemu or [""]]
    axes = Axes(
        machines=[each for text in machine or ["q35"] for each in _machines(text, param or [], qemus)],
        cmdlines=cmdline or [""],
        images=image or ["debian"],
        qemus=qemus,
    )
    columns = make_columns(axes)
    pace = {"accel": known_accel(accel), "start": "fresh" if fresh else "auto", "time": time}
    cells = [cell for name in scenarios for cell in _cells(name, columns, option or [], pace)]
    _check_names(cells)
    if json is not None and str(json) != "-":
        check_writable(json)
    files = ReportFiles(junit=junit, html=html, trace=trace)
    console = err if str(json) == "-" else out
    _print_accelerators(cells, console)
    folder = new_rundir(rundir)
    with claimed(folder), LiveProgress(cells, console) as progress:
        outcomes = run_until_signalled(
            run_cells(
                cells,
                rundir=folder,
                jobs=jobs or core_count(),
                observer=progress,
                on_ready=save_facts,
                skip_lacking=True,
            )
        )
    comparison = compare_outcomes(columns, scenarios, outcomes, every_line=every_line)
    print_comparison(comparison, console)
    console.print(f"[dim]logs: {escape(str(folder))}[/dim]", highlight=False, soft_wrap=True)
    text = comparison_to_json(comparison)
    write_text(text, folder / "comparison.json")
    if json is not None:
        write_text(text, json)
    write_reports(files, outcomes)
    raise typer.Exit(exit_code(comparison))


def _scenarios(name: str) -> list[str]:
    """Return the scenario of this name, or every one of a `.py` file."""
    if name.endswith(SCENARIOS.suffix):
        held = scenarios_in(existing(Path(name), "scenario"))
        if not held:
            raise InputError(f"scenario {name}: defines none")
        return [f"{name}:{each.name}" for each in held]
    if name in all_scenarios() or SCENARIOS.suffix + ":" in name:
        find_scenario(name)
        return [name]
    if name in CASES.names():
        hint = f"a case has its own machines: testbed run {name}; there are: {', '.join(all_scenarios())}"
        raise InputError(f"compare {name}: is a case, scenarios are compared", hint=hint)
    raise unknown("scenario", name, all_scenarios())


def _machines(text: str, params: Sequence[str], qemus: Sequence[str]) -> list[ComparedMachine]:
    """Return the machine, or one for each machine type of a pattern, that this means."""
    name, bracket, inner = text.partition("[")
    if not is_machine_type(name):
        template, parameters = machine_with_parameters(text, params)
        return [ComparedMachine(label=text, template=template, parameters=parameters)]
    offered = [each for qemu in qemus for each in find_qemu("" if qemu == ANY else qemu).machine_types]
    machines = []
    for kind, template in matching_types(name, offered):
        _, parameters = machine_with_parameters(f"{template}{bracket}{inner}", params)
        machines.append(
            ComparedMachine(label=f"{kind}{bracket}{inner}", template=template, parameters={**parameters, "type": kind})
        )
    return machines


def _cells(scenario: str, columns: Sequence[Column], options: Sequence[str], pace: dict[str, Any]) -> list[Cell]:
    given = given_options(find_scenario(scenario), options)
    return [column_cell(column, scenario, options=given, **pace) for column in columns]


def _check_names(cells: Sequence[Cell]) -> None:
    """Raise LackingError if not one cell has a QEMU with what it needs: that is no difference, but a slip."""
    lacking = []
    for cell in cells:
        try:
            cell_qemu(cell)
        except LackingError as error:
            lacking.append(error)
    if lacking and len(lacking) == len(cells):
        raise lacking[0]


def _print_accelerators(cells: Sequence[Cell], console: Console) -> None:
    """Say once what will run the guests, and why."""
    chosen: dict[Accel, None] = {}
    for cell in cells:
        with contextlib.suppress(LackingError):  # the cell itself will say so
            chosen[choose_accel(cell.accel, cell_qemu(cell))] = None
    for each in chosen:
        console.print(f"[dim]accelerator: {escape(str(each))}[/dim]", highlight=False, soft_wrap=True)

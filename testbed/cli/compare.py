"""`testbed compare`: scenarios on several machines, and what differs between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.campaign.compare.columns import Choices, make_columns
from testbed.campaign.compare.comparison import compare as compare_outcomes
from testbed.campaign.compare.comparison import exit_code
from testbed.campaign.prepared import setup_qemu
from testbed.campaign.run import places, run_cells
from testbed.campaign.setups import NamedSetup, options_of, read_setups
from testbed.cli.frame import CommandFrame
from testbed.cli.options import (
    RUNS,
    AccelName,
    First,
    Jobs,
    LoginFile,
    Options,
    PaceOptions,
    Params,
    PathName,
    ReportOptions,
    Rundir,
    Via,
    Whole,
    WholeWait,
    known_accel,
    known_qemu,
    known_via,
    spliced,
    when_whole,
)
from testbed.cli.terminal import show_progress, write_text
from testbed.guest.facts import save_facts
from testbed.host.slots import core_count
from testbed.model.catalog import CASES, existing, unknown
from testbed.model.errors import InputError, LackingError
from testbed.model.outcome import Cell
from testbed.report.compare import print_comparison
from testbed.report.json_file import comparison_to_json
from testbed.report.terminal import LiveProgress
from testbed.scenarios.scenario import (
    all_scenarios,
    find_scenario,
    in_a_file,
    is_scenario_file,
    known_scenario,
    scenarios_in,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.comparison import Column
    from testbed.model.outcome import Outcome


def _axis(*names: str, what: str) -> Any:
    return typer.Option(*names, help=f"{what} Repeat it to compare.", show_default=False)


_MACHINE = (
    "A machine: a template, with its parameters in brackets ('q35\\[hotplug=native]'), or a pattern of machine types "
    "('pc-q35-*')."
)
_ALL = "Compare every line of the kernel log, not only those about PCI and ACPI."


@spliced
def compare(
    names: Annotated[list[str], typer.Argument(metavar="SCENARIO...", show_default=False)],
    pace: PaceOptions,
    reports: ReportOptions,
    machine: Annotated[list[str] | None, _axis("--machine", "-m", what=_MACHINE)] = None,
    param: Params = None,
    option: Options = None,
    cmdline: Annotated[list[str] | None, _axis("--cmdline", what="Kernel command line, verbatim.")] = None,
    image: Annotated[list[str] | None, _axis("--image", what="Image recipe or kernel, as for run.")] = None,
    qemu: Annotated[list[str] | None, _axis("--qemu", what="QEMU, as for run.")] = None,
    accel: AccelName = "",
    first: First = "",
    whole: Whole = False,
    whole_wait: WholeWait = None,
    via: Via = "",
    login: LoginFile = None,
    path: PathName = None,
    jobs: Jobs = None,
    rundir: Rundir = RUNS,
    every_line: Annotated[bool, typer.Option("--all", help=_ALL)] = False,
) -> None:
    """Run scenarios on several machines, command lines, kernels or QEMUs, and show only what differs.

    Exits with 0 if nothing differs, with 1 if something does.
    """
    scenarios = [each for name in dict.fromkeys(names) for each in _scenarios(name)]
    qemus = [known_qemu(name) for name in qemu or [""]]
    given = {
        "accel": known_accel(accel),
        "first": first,
        "whole": when_whole(whole, whole_wait),
        "via": known_via(via),
        "login": str(login or ""),
    }
    by_loader = any(find_scenario(name).by_loader for name in scenarios)
    machines = _machines(machine or ["q35"], param or [], qemus, by_loader=by_loader, **given)
    choices = Choices(machines=machines, cmdlines=cmdline or [""], images=image or [""], qemus=qemus)
    columns = make_columns(choices, by_loader=by_loader, progress=show_progress)
    cells = [cell for name in scenarios for cell in _cells(name, columns, option or [], pace.pace())]
    _check_names(cells)
    reports.check()
    frame = CommandFrame(rundir, stdout_for_programs=reports.json_on_stdout)
    jobs = jobs or core_count()
    frame.announce(cells, jobs=min(jobs, len(cells)))
    with frame:
        outcomes = _run(cells, frame, jobs)
        comparison = compare_outcomes(columns, scenarios, outcomes, every_line=every_line)
        print_comparison(comparison, frame.console)
        text = comparison_to_json(comparison)
        write_text(text, frame.folder / "comparison.json")
    reports.write(outcomes, json=text)
    raise typer.Exit(exit_code(comparison))


def _run(cells: Sequence[Cell], frame: CommandFrame, jobs: int) -> list[Outcome]:
    """Run the cells; facts of each guest are kept, and what this host lacks is a skip."""
    with LiveProgress(cells, frame.console) as progress:
        return frame.run(
            run_cells(
                cells,
                place=places(frame.folder, cells),
                jobs=jobs,
                observer=progress,
                on_planned=progress.planned,
                on_ready=save_facts,
                skip_lacking=True,
            )
        )


def _scenarios(name: str) -> list[str]:
    """Return the scenario of this name, or every one of a file."""
    if is_scenario_file(name):
        held = scenarios_in(existing(Path(name), "scenario"))
        if not held:
            raise InputError(f"scenario {name}: defines no scenario")
        return [f"{name}:{each.name}" for each in held]
    if known_scenario(name) or in_a_file(name):
        find_scenario(name)
        return [name]
    if name in CASES.names():
        hint = f"a case brings its own machines: testbed run {name}; scenarios: {', '.join(all_scenarios())}"
        raise InputError(f"compare {name}: this is a case; only scenarios can be compared", hint=hint)
    raise unknown("scenario", name, all_scenarios())


def _machines(
    texts: Sequence[str], params: Sequence[str], qemus: Sequence[str], *, by_loader: bool, **fields: str
) -> list[NamedSetup]:
    return [
        each
        for text in texts
        for each in read_setups(text, params, qemus=qemus, by_loader=by_loader, progress=show_progress, **fields)
    ]


def _cells(scenario: str, columns: Sequence[Column], options: Sequence[str], pace: dict[str, Any]) -> list[Cell]:
    values = options_of(find_scenario(scenario), options)
    return [Cell.of(column, scenario, options=values, **pace) for column in columns]


def _check_names(cells: Sequence[Cell]) -> None:
    """Raise LackingError if no cell has a QEMU with what it needs: that is a mistake, not a difference."""
    lacking = []
    for cell in cells:
        try:
            setup_qemu(cell)
        except LackingError as error:
            lacking.append(error)
    if lacking and len(lacking) == len(cells):
        raise lacking[0]

"""`testbed run`: cases, and scenarios on a machine of the user's choice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.campaign.case import Case, load_case, with_kernel
from testbed.campaign.offers import case_offers, scenario_offers
from testbed.campaign.run import exit_code, git_bisect_exit, worst_exit
from testbed.campaign.setups import is_cell_id, options_of, read_cell
from testbed.cli.frame import CommandFrame
from testbed.cli.keep import Keep, Keeper
from testbed.cli.options import RUNS, Jobs, Options, PaceOptions, ReportOptions, Rundir, SetupOptions, spliced
from testbed.cli.standard_input import StandardInput
from testbed.cli.terminal import show_progress
from testbed.cli.works import Work, run_works
from testbed.host.slots import core_count
from testbed.model.catalog import CASES, existing, unknown
from testbed.model.errors import InputError
from testbed.model.outcome import Cell
from testbed.model.setup import Setup
from testbed.report.json_file import to_json
from testbed.scenarios.scenario import (
    Scenario,
    all_scenarios,
    find_scenario,
    in_a_file,
    is_scenario_file,
    known_scenario,
    scenarios_in,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEEP = "Keep machines with this verdict alive to attach to; one guest at a time."
_L2_IMAGE = "An image whose kernel L2 machines boot; their own by default."
_GIT_BISECT = "Exit codes for `git bisect run`: a guest that does not boot is 125."


def _offered() -> list[str]:
    """Return what a shell completes."""
    return [offer.name for offer in (*case_offers(), *scenario_offers())]


@spliced
def run(
    setup: SetupOptions,
    pace: PaceOptions,
    reports: ReportOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="CASE|SCENARIO|CELL...", show_default=False, autocompletion=_offered),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Run every case.")] = False,
    machine: Annotated[str, typer.Option("--machine", "-m", help="Machine, for scenarios: q35 by default.")] = "",
    option: Options = None,
    l2_image: Annotated[str, typer.Option("--l2-image", help=_L2_IMAGE, show_default=False)] = "",
    jobs: Jobs = None,
    rundir: Rundir = RUNS,
    keep: Annotated[Keep | None, typer.Option(help=_KEEP, show_default=False)] = None,
    git_bisect: Annotated[bool, typer.Option("--git-bisect", help=_GIT_BISECT)] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every finding and its evidence.")] = False,
) -> None:
    """Run documented cases, or scenarios on a machine of your choice, and judge what the guest did.

    A cell is named as a run prints it: 'disk-unplug q35\\[hotplug=native] pcie_aspm=off'.
    """
    chosen = [*(names or []), *(CASES.names() if every else [])]
    if not chosen:
        raise InputError("run: nothing to run", hint="name a case or a scenario (see: testbed list), or give --all")
    paced = _pace(pace, keep)
    request = _Request(machine=machine, setup=setup, options=option or [], pace=paced, l2_image=l2_image)
    works = [work for name in dict.fromkeys(chosen) for work in _works(name, request)]
    reports.check()
    frame = CommandFrame(rundir, stdout_for_programs=reports.json_on_stdout)
    cells = [cell for work in works for cell in work.cells]
    jobs = 1 if keep else jobs or core_count()
    frame.announce(cells, jobs=min(jobs, len(cells)))
    keeper = Keeper(keep, frame.console, StandardInput()) if keep else None
    with frame:
        done = run_works(works, frame, jobs=jobs, verbose=verbose, on_verdict=keeper.on_verdict if keeper else None)
    reports.write([outcome for report in done for outcome in report.cells], json=to_json(done))
    code = git_bisect_exit if git_bisect else exit_code
    raise typer.Exit(worst_exit([code(report) for report in done]))


def _pace(pace: PaceOptions, keep: Keep | None) -> dict[str, Any]:
    """Return how the cells go; a guest that people look at lives in their time, unless they say otherwise."""
    fields = pace.pace()
    return {**fields, "time": "real"} if keep and fields["time"] == "auto" else fields


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What the command line says of the cells to run."""

    machine: str
    setup: SetupOptions
    options: list[str]  #: of scenarios
    pace: dict[str, Any]
    l2_image: str  #: whose kernel machines in a guest get

    def cell(self, scenario: str) -> Cell:
        """Return the cell of a scenario."""
        found = find_scenario(scenario)
        setup = self.setup.setup(self.machine or "q35", by_loader=found.by_loader)
        cell = Cell.of(setup, scenario, options=options_of(found, self.options), **self.pace)
        return with_kernel([cell], "", level2=self.l2_image, tell=show_progress)[0]

    def changed(self, what: str, cells: Sequence[Cell]) -> list[Cell]:
        """Return cells that say what they are, with what may be changed of them: kernel, QEMU and accelerator."""
        setup = self.setup
        fixed = {
            "--machine": self.machine,
            "--param": setup.param,
            "--scenario-option": self.options,
            "--cmdline": setup.cmdline,
            "--first": setup.first,
            "--whole": setup.whole or setup.whole_wait is not None,
            "--via": setup.via,
            "--login": setup.login,
        }
        for option, value in fixed.items():
            if value:
                hint = f"name a scenario instead: {', '.join(all_scenarios())}"
                raise InputError(f"{what}: {option} is fixed by its cells", hint=hint)
        wanted = setup.setup("q35")
        changes = {
            name: getattr(wanted, name)
            for name in ("qemu", "accel")
            if getattr(wanted, name) != Setup.model_fields[name].default
        }
        changed = [cell.model_copy(update={**changes, **self.pace}) for cell in cells]
        return with_kernel(changed, setup.image, level2=self.l2_image, tell=show_progress)


def _works(name: str, request: _Request) -> list[Work]:
    """Return the case of this name or path, the scenario, the cell, or every scenario of a file."""
    if name in CASES.names():
        return [_case_work(load_case(name), request)]
    if is_cell_id(name):
        cells = request.changed(f"cell {name!r}", [read_cell(name)])
        return [Work(case=None, cells=cells, title=f"cell {cells[0].id}")]
    if is_scenario_file(name):
        held = scenarios_in(existing(Path(name), "scenario"))
        if not held:
            hint = "put @scenario() before an async function of a Trial"
            raise InputError(f"scenario {name}: defines no scenario", hint=hint)
        return [_scenario_work(f"{name}:{each.name}", each, request) for each in held]
    if name.endswith(CASES.suffix):
        return [_case_work(load_case(name), request)]
    if known_scenario(name) or in_a_file(name):
        return [_scenario_work(name, find_scenario(name), request)]
    raise unknown("case or scenario", name, (*CASES.names(), *all_scenarios()))


def _case_work(case: Case, request: _Request) -> Work:
    cells = request.changed(f"case {case.name}", case.cells)
    return Work(case=case.name, cells=cells, title=f"case {case.name}: {case.title}")


def _scenario_work(name: str, scenario: Scenario, request: _Request) -> Work:
    return Work(case=None, cells=[request.cell(name)], title=f"scenario {scenario.name}: {scenario.question}")

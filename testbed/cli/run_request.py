"""What `testbed run` does with its words: from names and options to the cells to run, and to an exit code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.campaign.case import Case, load_case, with_kernel
from testbed.campaign.run import exit_code, git_bisect_exit, worst_exit
from testbed.campaign.setups import is_cell_id, options_of, read_cell
from testbed.cli.frame import CommandFrame
from testbed.cli.keep import Keeper
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

    from testbed.cli.options import Keep, PaceOptions, ReportOptions, SetupOptions


def run_named(
    names: Sequence[str],
    request: Request,
    *,
    reports: ReportOptions,
    rundir: Path,
    jobs: int | None,
    keep: Keep | None,
    git_bisect: bool,
    verbose: bool,
) -> int:
    """Run what the names stand for, print and write what comes of it, and return the exit code."""
    works = [work for name in dict.fromkeys(names) for work in _works(name, request)]
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
    return worst_exit([code(report) for report in done])


def paced(pace: PaceOptions, keep: Keep | None) -> dict[str, Any]:
    """Return how the cells go; a guest that people look at lives in their time, unless they say otherwise."""
    fields = pace.pace()
    return {**fields, "time": "real"} if keep and fields["time"] == "auto" else fields


@dataclass(frozen=True, kw_only=True)
class Request:
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


def _works(name: str, request: Request) -> list[Work]:
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


def _case_work(case: Case, request: Request) -> Work:
    cells = request.changed(f"case {case.name}", case.cells)
    return Work(case=case.name, cells=cells, title=f"case {case.name}: {case.title}")


def _scenario_work(name: str, scenario: Scenario, request: Request) -> Work:
    return Work(case=None, cells=[request.cell(name)], title=f"scenario {scenario.name}: {scenario.question}")

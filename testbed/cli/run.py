"""`testbed run`: cases, and scenarios on a machine of the user's choice."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from testbed.campaign.case import Case, load_case
from testbed.campaign.run import exit_code, git_bisect_exit, run_cells, summarize, worst_exit
from testbed.campaign.trial_run import cell_qemu
from testbed.cli.keep import Keep, Keeper
from testbed.cli.options import (
    AccelName,
    Cmdline,
    HtmlFile,
    ImageName,
    JsonFile,
    JunitFile,
    Options,
    Params,
    PathName,
    QemuName,
    TraceFile,
    given_options,
    given_parameters,
    known_accel,
    known_qemu,
)
from testbed.cli.reports import ReportFiles, write_reports
from testbed.cli.rundir import Rundir, new_rundir
from testbed.cli.signals import run_until_signalled
from testbed.cli.standard_input import StandardInput
from testbed.cli.terminal import check_writable, err, out, write_text
from testbed.host.accel import Accel, choose_accel
from testbed.host.claim import claimed
from testbed.host.slots import core_count
from testbed.model.catalog import CASES, SCENARIOS, existing, unknown
from testbed.model.errors import InputError, LackingError
from testbed.model.outcome import Cell, RunReport
from testbed.report.json_file import to_json
from testbed.report.terminal import LiveProgress, print_findings, print_report
from testbed.scenarios.scenario import Scenario, all_scenarios, find_scenario, scenarios_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


def run(
    names: Annotated[list[str] | None, typer.Argument(metavar="CASE|SCENARIO...", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Run every case.")] = False,
    machine: Annotated[str, typer.Option("--machine", "-m", help="Machine template, for scenarios.")] = "",
    param: Params = None,
    option: Options = None,
    cmdline: Cmdline = "",
    image: ImageName = "",
    qemu: QemuName = "",
    accel: AccelName = "auto",
    path: PathName = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Guests at once; one a core.", show_default=False)
    ] = None,
    json: JsonFile = None,
    junit: JunitFile = None,
    html: HtmlFile = None,
    trace: TraceFile = None,
    rundir: Rundir = Path("testbed-runs"),
    keep: Annotated[
        Keep | None,
        typer.Option(
            help="Keep a machine with this verdict alive to attach to; one guest at once.", show_default=False
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Boot every guest; use and save no saved state.")] = False,
    time: Annotated[
        str, typer.Option("--time", help="How a guest's idle time passes under TCG: auto, real or warped.")
    ] = "auto",
    git_bisect: Annotated[
        bool, typer.Option("--git-bisect", help="Exit codes for `git bisect run`: a guest that does not boot is 125.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every finding and its evidence.")] = False,
) -> None:
    """Run documented cases, or scenarios on a machine of your choice, and judge what the guest did."""
    chosen = [*(names or []), *(CASES.names() if every else [])]
    if not chosen:
        raise InputError("run: nothing to run", hint="name a case or a scenario (see: testbed list), or give --all")
    options = CellOptions(
        machine=machine,
        params=param or [],
        options=option or [],
        cmdline=cmdline,
        image=image,
        qemu=known_qemu(qemu),
        accel=accel,
        fresh=fresh,
        # a guest that people look at lives in their time, unless they say otherwise
        time="real" if keep and time == "auto" else time,
    )
    works = [work for name in dict.fromkeys(chosen) for work in _works(name, options)]
    if json is not None and str(json) != "-":
        check_writable(json)
    files = ReportFiles(junit=junit, html=html, trace=trace)
    console = err if str(json) == "-" else out
    _print_accelerators(works, console)
    folder = new_rundir(rundir)
    keeper = Keeper(keep, console, StandardInput()) if keep else None
    at_once = 1 if keep else jobs or core_count()
    with claimed(folder):
        reports = [_run_one(work, folder, at_once, console, verbose, keeper) for work in works]
    console.print(f"[dim]logs: {escape(str(folder))}[/dim]", highlight=False, soft_wrap=True)
    if json is not None:
        write_text(to_json(reports), json)
    write_reports(files, [outcome for report in reports for outcome in report.cells])
    code = git_bisect_exit if git_bisect else exit_code
    raise typer.Exit(worst_exit([code(report) for report in reports]))


@dataclass(frozen=True, kw_only=True)
class CellOptions:
    """What the command line says of a scenario's cell."""

    machine: str
    params: list[str]
    options: list[str]  #: of scenarios
    cmdline: str
    image: str
    qemu: str
    accel: str
    fresh: bool
    time: str

    def cell(self, scenario: str) -> Cell:
        """Return the cell of a scenario."""
        machine = self.machine or "q35"
        return Cell(
            scenario=scenario,
            options=given_options(find_scenario(scenario), self.options),
            machine=machine,
            parameters=given_parameters(machine, self.params),
            cmdline=self.cmdline,
            image=self.image or "debian",
            qemu=self.qemu,
            accel=known_accel(self.accel),
            **self._pace(),
        )

    def _pace(self) -> dict[str, Any]:
        """Return what is said of start and time."""
        if self.time not in ("auto", "real", "warped"):
            raise unknown("--time", self.time, ("auto", "real", "warped"))
        return {"start": "fresh" if self.fresh else "auto", "time": self.time}

    def applied_to(self, case: Case) -> list[Cell]:
        """Return a case's cells with what may be changed of them: image, QEMU and accelerator."""
        fixed = {
            "--machine": self.machine,
            "--param": self.params,
            "--scenario-option": self.options,
            "--cmdline": self.cmdline,
        }
        for option, value in fixed.items():
            if value:
                hint = f"name a scenario instead: {', '.join(all_scenarios())}"
                raise InputError(f"case {case.name}: {option} is part of its cells", hint=hint)
        changes: dict[str, Any] = {"image": self.image, "qemu": self.qemu, "accel": known_accel(self.accel)}
        given = {key: value for key, value in changes.items() if value} | self._pace()
        return [cell.model_copy(update=given) for cell in case.cells]


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A case, or a scenario's one cell, to run."""

    case: str | None
    cells: list[Cell]
    title: str


def _works(name: str, options: CellOptions) -> list[_Work]:
    """Return the case of this name or path, or the scenario, or every scenario of a `.py` file."""
    if name in CASES.names() or name.endswith(CASES.suffix):
        case = load_case(name)
        return [_Work(case=case.name, cells=options.applied_to(case), title=f"case {case.name}: {case.title}")]
    if name.endswith(SCENARIOS.suffix):
        held = scenarios_in(existing(Path(name), "scenario"))
        if not held:
            raise InputError(
                f"scenario {name}: defines none", hint="put @scenario() before an async function of a Trial"
            )
        return [_scenario_work(f"{name}:{each.name}", each, options) for each in held]
    if name in all_scenarios() or SCENARIOS.suffix + ":" in name:
        return [_scenario_work(name, find_scenario(name), options)]
    raise unknown("case or scenario", name, (*CASES.names(), *all_scenarios()))


def _scenario_work(name: str, scenario: Scenario, options: CellOptions) -> _Work:
    title = f"scenario {scenario.name}: {scenario.question}"
    return _Work(case=None, cells=[options.cell(name)], title=title)


def _print_accelerators(works: Sequence[_Work], console: Console) -> None:
    """Say once what will run the guests, and why; raise InputError where `kvm` was asked for and does not work."""
    chosen: dict[Accel, None] = {}
    for cell in (cell for work in works for cell in work.cells):
        with contextlib.suppress(LackingError):  # the cell itself will say so
            chosen[choose_accel(cell.accel, cell_qemu(cell))] = None
    for accel in chosen:
        console.print(f"[dim]accelerator: {escape(str(accel))}[/dim]", highlight=False, soft_wrap=True)


def _run_one(work: _Work, folder: Path, jobs: int, console: Console, verbose: bool, keeper: Keeper | None) -> RunReport:
    console.print(f"[bold]{escape(work.title)}[/bold]", highlight=False)
    place = folder / (work.case or work.cells[0].scenario.rpartition(":")[2])
    with LiveProgress(work.cells, console) as progress:
        on_verdict = keeper.on_verdict if keeper else None
        outcomes = run_until_signalled(
            run_cells(work.cells, rundir=place, jobs=jobs, observer=progress, on_verdict=on_verdict)
        )
    report = summarize(work.case, outcomes)
    if verbose or work.case is None:
        for outcome in outcomes:
            print_findings(outcome, console)
    print_report(report, console)
    write_text(to_json([report]), place / "report.json")
    return report

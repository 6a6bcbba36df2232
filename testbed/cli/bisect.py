"""`testbed bisect`: which options, flags, parameters, devices or differences turn a verdict."""

from __future__ import annotations

import contextlib
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.markup import escape

from testbed.campaign.bisect.over_given import REMEDIES, devices_of, options_of, parameters_of, remedies_for
from testbed.campaign.bisect.over_hardware import cpu_features_of, differences_of
from testbed.campaign.bisect.record import BisectRequest
from testbed.campaign.bisect.report import bisect_exit, bisect_report
from testbed.campaign.bisect.result import Goal
from testbed.campaign.bisect.run import Way
from testbed.campaign.bisect.run import bisect as run_bisect
from testbed.campaign.setups import options_of as scenario_options
from testbed.cli.frame import CommandFrame
from testbed.cli.options import RUNS, Options, ReportOptions, Rundir, SetupOptions, spliced
from testbed.cli.terminal import check_writable, write_text
from testbed.host.claim import Claim, read_claim
from testbed.host.slots import core_count
from testbed.model.bisect import Over
from testbed.model.catalog import unknown
from testbed.model.errors import InputError
from testbed.model.outcome import Cell
from testbed.report.bisect import LiveBisect, print_bisect
from testbed.report.bisect_log import log_end, log_head, log_trial
from testbed.report.json_file import bisect_json
from testbed.scenarios.scenario import find_scenario

if TYPE_CHECKING:
    from rich.console import Console

    from testbed.campaign.bisect.elements import Elements
    from testbed.campaign.bisect.oracle import Tried
    from testbed.campaign.bisect.result import SearchTrial
    from testbed.campaign.bisect.run import Bisected
    from testbed.model.bisect import BisectReport


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What is searched for, among what, and how."""

    goal: Annotated[
        str, typer.Option("--goal", help="culprit: what makes it bad; remedy: what makes a bad one good.")
    ] = "culprit"
    over: Annotated[
        str, typer.Option("--over", help="What to search: cmdline, cpu, parameters, devices or machine.")
    ] = "cmdline"
    candidates: Annotated[
        str,
        typer.Option(
            "--candidates",
            help="Options to try as a remedy; well-known ones by default.",
            metavar="OPTIONS",
            show_default=False,
        ),
    ] = ""
    repeat: Annotated[
        int, typer.Option("--repeat", min=1, help="How many times to run each decisive trial, for a flaky verdict.")
    ] = 1
    one_at_a_time: Annotated[
        bool, typer.Option("--one-at-a-time", help="One guest at a time: fewer boots, but slower.")
    ] = False

    def request(self, cells: list[Cell]) -> BisectRequest:
        """Return what is asked of some cells; raise InputError for options that do not go together."""
        request = BisectRequest(
            cells=tuple(cells),
            goal=_goal(self.goal).value,
            over=_over(self.over),
            candidates=tuple(self.candidates.split()),
            repeat=self.repeat,
            one_at_a_time=self.one_at_a_time,
        )
        _check(request)
        return request


_MACHINE = "Machine, as in run; given twice with --over machine, the one with the symptom second."
_RESUME = "Resume an interrupted bisect: finished trials are not repeated."


@spliced
def bisect(
    setup: SetupOptions,
    search: SearchOptions,
    reports: ReportOptions,
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="See: testbed list scenarios.")] = "",
    machine: Annotated[
        list[str] | None,
        typer.Option("--machine", "-m", metavar="NAME[PARAMETER=VALUE,...]", help=_MACHINE, show_default=False),
    ] = None,
    option: Options = None,
    log: Annotated[Path | None, typer.Option("--log", help="Write every trial to this file as a command.")] = None,
    rundir: Rundir = RUNS,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="RUNDIR", help=_RESUME, show_default=False)] = None,
) -> None:
    """Find which command-line options flip a scenario's verdict, prove it, and print the line without them.

    Exit codes: 0 found and proven, 1 not proven, 2 wrong input or nothing to find, 125 cannot run here, 128 broken.
    """
    if bool(scenario) == bool(resume):
        raise InputError("bisect: expected a scenario, or --resume RUNDIR", hint="testbed bisect disk-unplug …")
    cells = [] if resume else _cells(scenario, machine or ["q35"], option or [], setup)
    request = _resumed(resume) if resume else search.request(cells)
    reports.check()
    if log is not None:
        check_writable(log)
    frame = CommandFrame(resume or rundir, stdout_for_programs=reports.json_on_stdout, resumed=resume is not None)
    frame.announce(request.cells[:1])
    elements = frame.run(_elements(request, frame.console))
    _print_head(elements, request, frame.console)
    with frame:
        request.write(frame.folder)
        try:
            done, report = frame.run(_found(elements, request, frame, log))
        except InputError:
            request.withdraw(frame.folder)
            raise
        print_bisect(report, frame.console)
        write_text(bisect_json(report), frame.folder / "bisect.json")
    reports.write(done.outcomes(), json=bisect_json(report))
    raise typer.Exit(bisect_exit(report))


def _goal(name: str) -> Goal:
    try:
        return Goal(name)
    except ValueError:
        raise unknown("--goal", name, [str(each) for each in Goal]) from None


def _over(name: str) -> Over:
    if name not in get_args(Over):
        raise unknown("--over", name, get_args(Over))
    return cast("Over", name)


def _cells(scenario: str, machines: list[str], options: list[str], setup: SetupOptions) -> list[Cell]:
    found = find_scenario(scenario)
    values = scenario_options(found, options)
    return [Cell.of(setup.setup(text, by_loader=found.by_loader), scenario, options=values) for text in machines]


def _resumed(rundir: Path) -> BisectRequest:
    """Return what the bisect of a rundir was asked."""
    if read_claim(rundir) is Claim.LIVE:
        raise InputError(f"rundir {rundir}: its bisect is still running")
    return BisectRequest.read(rundir)


def _check(request: BisectRequest) -> None:
    """Raise InputError for options that do not go together."""
    wanted = 2 if request.over == "machine" else 1
    if len(request.cells) != wanted:
        example = "--machine pc-q35-6.1 --machine pc-q35-6.0" if wanted == 2 else "--over machine"
        raise InputError(
            f"bisect over {request.over}: {len(request.cells)} machines are given, wanted {wanted}",
            hint=f"for example: {example}",
        )
    if request.candidates and (request.goal != "remedy" or request.over != "cmdline"):
        raise InputError("bisect: --candidates works only with --goal remedy over cmdline", hint="add: --goal remedy")


def _print_head(elements: Elements, request: BisectRequest, console: Console) -> None:
    what = "what makes it bad" if request.goal == "culprit" else "what makes it good"
    title = f"bisect {request.cells[0].scenario}: {what}, among {elements.counted(len(elements))}"
    console.print(f"[bold]{escape(title)}[/bold]", highlight=False)


async def _elements(request: BisectRequest, console: Console) -> Elements:
    """Return what is searched among; QEMU itself is asked for some of it."""

    def say(text: str) -> None:
        console.print(f"[dim]{escape(text)}[/dim]", highlight=False)

    cells, goal = request.cells, Goal(request.goal)
    if request.over == "cpu":
        return await cpu_features_of(cells[0], goal, progress=say)
    if request.over == "machine":
        return await differences_of(cells[0], cells[1], progress=say)
    if request.over != "cmdline":
        return {"parameters": parameters_of, "devices": devices_of}[request.over](cells[0])
    if goal is Goal.REMEDY:
        return remedies_for(cells[0], request.candidates or REMEDIES)
    return options_of(cells[0])


async def _found(
    elements: Elements, request: BisectRequest, frame: CommandFrame, log_file: Path | None
) -> tuple[Bisected, BisectReport]:
    """Bisect, and write the log while it goes on."""
    parallel = 1 if request.one_at_a_time else min(2, core_count())
    way = Way(goal=Goal(request.goal), parallel=parallel, repeat=request.repeat)
    with _Log(log_file, elements) as log, LiveBisect(elements, frame.console, on_answer=log.answered) as live:
        done = await run_bisect(elements, way, rundir=frame.folder, observer=live)
        report = bisect_report(done)
        log.write(log_end(report))
    return done, report


class _Log:
    """The log file, written as trials are answered, so that an interrupted bisect has it too."""

    def __init__(self, path: Path | None, elements: Elements) -> None:
        self._stack = contextlib.ExitStack()
        self._file = self._stack.enter_context(path.open("w")) if path else None
        self._elements = elements

    def __enter__(self) -> _Log:
        self.write(log_head(shlex.join(["testbed", *sys.argv[1:]]), self._elements))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, text: str) -> None:
        """Add to it."""
        if self._file:
            self._file.write(text)
            self._file.flush()

    def answered(self, trial: SearchTrial, tried: Tried) -> None:
        """Add a trial."""
        self.write(log_trial(self._elements, trial, tried))

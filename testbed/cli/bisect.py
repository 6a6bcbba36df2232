"""`testbed bisect`: which options, flags, parameters, devices or differences turn a verdict."""

from __future__ import annotations

import contextlib
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from rich.markup import escape

from testbed.campaign.bisect.over_cmdline import REMEDIES, options_of, remedies_for
from testbed.campaign.bisect.over_cpu import cpu_features_of
from testbed.campaign.bisect.over_machine import differences_of
from testbed.campaign.bisect.over_parameters import devices_of, parameters_of
from testbed.campaign.bisect.report import bisect_exit, bisect_report
from testbed.campaign.bisect.result import Goal
from testbed.campaign.bisect.run import Way
from testbed.campaign.bisect.run import bisect as run_bisect
from testbed.campaign.bisect.trial_cache import TrialCache
from testbed.campaign.compare.columns import is_machine_type, matching_types
from testbed.campaign.trial_run import cell_qemu
from testbed.cli.options import (
    AccelName,
    Cmdline,
    HtmlFile,
    ImageName,
    JunitFile,
    Options,
    Params,
    PathName,
    QemuName,
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
from testbed.host.accel import choose_accel
from testbed.host.claim import claimed
from testbed.host.qemu import find_qemu
from testbed.host.qemu_catalog import ANY
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
    from testbed.campaign.bisect.result import Trial
    from testbed.campaign.bisect.run import Bisected
    from testbed.model.bisect import BisectReport


def bisect(
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="See: testbed list scenarios.")],
    machine: Annotated[
        list[str] | None,
        typer.Option(
            "--machine",
            "-m",
            metavar="NAME[PARAMETER=VALUE,...]",
            help="Machine template; given twice with --over machine, the one with the symptom second.",
            show_default=False,
        ),
    ] = None,
    param: Params = None,
    option: Options = None,
    cmdline: Cmdline = "",
    goal: Annotated[
        str, typer.Option("--goal", help="culprit: what makes it bad; remedy: what makes a bad one good.")
    ] = "culprit",
    over: Annotated[
        str, typer.Option("--over", help="What is searched: cmdline, cpu, parameters, devices or machine.")
    ] = "cmdline",
    candidates: Annotated[
        str,
        typer.Option(
            "--candidates",
            help="Options to try as a remedy; well-known ones by default.",
            metavar="OPTIONS",
            show_default=False,
        ),
    ] = "",
    repeat: Annotated[
        int, typer.Option("--repeat", min=1, help="How often decisive trials are made, for a flaky verdict.")
    ] = 1,
    one_at_a_time: Annotated[
        bool, typer.Option("--one-at-a-time", help="One guest at once: fewer boots, more seconds.")
    ] = False,
    image: ImageName = "",
    qemu: QemuName = "",
    accel: AccelName = "auto",
    path: PathName = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Make every trial anew; what is kept of earlier ones stays.")
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write the result there; - is stdout.")] = None,
    log: Annotated[Path | None, typer.Option("--log", help="Write every trial there as a command.")] = None,
    junit: JunitFile = None,
    html: HtmlFile = None,
    trace: TraceFile = None,
    rundir: Rundir = Path("testbed-runs"),
) -> None:
    """Find which options of a command line turn the verdict of a scenario, prove it, and give the line without them.

    Exit codes: 0 found and proven, 1 not proven, 2 wrong input or nothing to find, 125 cannot run here, 128 broken.
    """
    asked = _Asked(goal=_known(goal), over=_over(over), candidates=tuple(candidates.split()))
    given: dict[str, Any] = {
        "cmdline": cmdline,
        "image": image or "debian",
        "qemu": known_qemu(qemu),
        "accel": known_accel(accel),
    }
    cells = [_cell(scenario, text, param or [], option or [], given) for text in machine or ["q35"]]
    _check(cells, asked)
    for file in (log, json if str(json) != "-" else None):
        if file is not None:
            check_writable(file)
    files = ReportFiles(junit=junit, html=html, trace=trace)
    console = err if str(json) == "-" else out
    said = choose_accel(cells[0].accel, cell_qemu(cells[0]))
    console.print(f"[dim]accelerator: {escape(str(said))}[/dim]", highlight=False, soft_wrap=True)
    elements = run_until_signalled(asked.elements(cells, console))
    _print_head(elements, asked, cells, console)
    way = Way(goal=asked.goal, parallel=1 if one_at_a_time else min(2, core_count()), repeat=repeat)
    folder = new_rundir(rundir)
    with claimed(folder):
        done, report = run_until_signalled(_found(elements, way, _Place(folder, log, console, fresh)))
    print_bisect(report, console)
    console.print(f"[dim]logs: {escape(str(folder))}[/dim]", highlight=False, soft_wrap=True)
    write_text(bisect_json(report), folder / "bisect.json")
    if json is not None:
        write_text(bisect_json(report), json)
    write_reports(files, done.outcomes())
    raise typer.Exit(bisect_exit(report))


def _known(goal: str) -> Goal:
    try:
        return Goal(goal)
    except ValueError:
        raise unknown("--goal", goal, [str(each) for each in Goal]) from None


def _over(name: str) -> Over:
    if name not in get_args(Over):
        raise unknown("--over", name, get_args(Over))
    return cast("Over", name)


def _cell(scenario: str, text: str, params: list[str], options: list[str], given: dict[str, Any]) -> Cell:
    """Return the cell on a machine: a template, or a versioned machine type, maybe with parameters in brackets."""
    name, bracket, inner = text.partition("[")
    fixed = {}
    if is_machine_type(name):
        offered = find_qemu(given["qemu"]).machine_types if given["qemu"] != ANY else find_qemu().machine_types
        matching = matching_types(name, offered)
        if len(matching) > 1:
            types = ", ".join(kind for kind, _ in matching)
            raise InputError(f"--machine {name!r}: {len(matching)} machine types match", hint=f"name one: {types}")
        ((kind, template),) = matching
        text, fixed = f"{template}{bracket}{inner}", {"type": kind}
    machine, parameters = machine_with_parameters(text, params)
    chosen = given_options(find_scenario(scenario), options)
    return Cell(scenario=scenario, machine=machine, parameters={**parameters, **fixed}, options=chosen, **given)


def _check(cells: list[Cell], asked: _Asked) -> None:
    """Raise InputError for options that do not go together."""
    wanted = 2 if asked.over == "machine" else 1
    if len(cells) != wanted:
        example = "--machine pc-q35-6.1 --machine pc-q35-6.0" if wanted == 2 else "--over machine"
        raise InputError(
            f"bisect over {asked.over}: {len(cells)} machines are given, wanted {wanted}",
            hint=f"for example: {example}",
        )
    if asked.candidates and (asked.goal is not Goal.REMEDY or asked.over != "cmdline"):
        raise InputError("bisect: --candidates are for a remedy on the command line", hint="add: --goal remedy")


def _print_head(elements: Elements, asked: _Asked, cells: list[Cell], console: Console) -> None:
    what = "what makes it bad" if asked.goal is Goal.CULPRIT else "what makes it good"
    console.print(
        f"[bold]bisect {escape(cells[0].scenario)}: {what}, among {elements.counted(len(elements))}[/bold]",
        highlight=False,
    )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is to be found, and among what."""

    goal: Goal
    over: Over
    candidates: tuple[str, ...]

    async def elements(self, cells: list[Cell], console: Console) -> Elements:
        """Return what is searched among; QEMU itself is asked for some of it."""

        def say(text: str) -> None:
            console.print(f"[dim]{escape(text)}[/dim]", highlight=False)

        if self.over == "cpu":
            return await cpu_features_of(cells[0], self.goal, progress=say)
        if self.over == "machine":
            return await differences_of(*cells, progress=say)
        if self.over != "cmdline":
            return {"parameters": parameters_of, "devices": devices_of}[self.over](cells[0])
        if self.goal is Goal.REMEDY:
            return remedies_for(cells[0], self.candidates or REMEDIES)
        return options_of(cells[0])


@dataclass(frozen=True)
class _Place:
    """Where a bisect leaves what it did."""

    folder: Path
    log: Path | None
    console: Console
    fresh: bool


async def _found(elements: Elements, way: Way, place: _Place) -> tuple[Bisected, BisectReport]:
    """Bisect, and write the log while it goes on."""
    cache = None if place.fresh else TrialCache()
    with _Log(place.log, elements) as log, LiveBisect(elements, place.console, on_answer=log.answered) as live:
        done = await run_bisect(elements, way, rundir=place.folder, cache=cache, observer=live)
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

    def answered(self, trial: Trial, tried: Tried) -> None:
        """Add a trial."""
        self.write(log_trial(self._elements, trial, tried))

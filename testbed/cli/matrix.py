"""`testbed matrix`: every combination of scenarios, machines, command lines and more, judged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from testbed.campaign.matrix.axes import DEFAULTS
from testbed.campaign.matrix.baseline import compare, read_baseline, summarized
from testbed.campaign.matrix.file import MatrixSource, option_row, read_source, recorded_source
from testbed.campaign.matrix.matrix import Matrix, expand
from testbed.campaign.matrix.results import Results
from testbed.campaign.matrix.run import MatrixCampaign
from testbed.cli.frame import CommandFrame
from testbed.cli.options import (
    RUNS,
    Fresh,
    Jobs,
    PathName,
    ReportOptions,
    Rundir,
    Whole,
    WholeWait,
    spliced,
    when_whole,
)
from testbed.cli.terminal import show_progress, write_text
from testbed.cli.workers import WorkersName, executor_for
from testbed.host.claim import Claim, read_claim
from testbed.host.slots import core_count
from testbed.model.errors import BedError, InputError
from testbed.report.matrix import MatrixProgress, print_comparison, print_matrix
from testbed.report.matrix_json import write_matrix_json
from testbed.scenarios.scenario import is_scenario_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from testbed.campaign.execution.executor import Executor
    from testbed.campaign.matrix.baseline import Key, Summary

#: what a rundir remembers of the matrix
RECORD = "matrix.json"
REPORT = "report.json"
_YAML = (".yaml", ".yml")
_ROW = "AXIS=VALUE; AXIS=VALUE"

_Axis = list[str] | None


def _axis(*names: str, what: str) -> Any:
    return typer.Option(*names, help=f"{what} Repeat it to make an axis.", show_default=False)


def _rows(name: str, what: str) -> Any:
    return typer.Option(name, metavar=f"'{_ROW}'", help=what, show_default=False)


@dataclass(frozen=True, kw_only=True)
class AxisOptions:
    """The axes: what may be given more than once."""

    machine: Annotated[
        _Axis, _axis("--machine", "-m", what="A machine as in compare: 'q35\\[hotplug=native]', 'pc-q35-*'.")
    ] = None
    parameters: Annotated[
        _Axis, _axis("--parameters", what="Parameters added to each machine: 'memory=1024,cpus=2'.")
    ] = None
    cpu: Annotated[_Axis, _axis("--cpu", what="CPU model with its features: 'max,smap=off'.")] = None
    cmdline: Annotated[_Axis, _axis("--cmdline", what="Kernel command line, verbatim.")] = None
    image: Annotated[_Axis, _axis("--image", "--kernel", what="Image recipe or kernel, as for run.")] = None
    qemu: Annotated[_Axis, _axis("--qemu", what="QEMU, as for run.")] = None
    accel: Annotated[_Axis, _axis("--accel", what="auto, kvm or tcg.")] = None
    first: Annotated[_Axis, _axis("--first", what="A guest command that prepares the starting state.")] = None
    whole: Whole = False
    whole_wait: WholeWait = None
    via: Annotated[_Axis, _axis("--via", what="How to talk to the guest, as for run: agent or console.")] = None
    login: Annotated[_Axis, _axis("--login", what="A file with the user name and password for the console.")] = None

    def fields(self) -> dict[str, Any]:
        """Return the values by axis, None on those that were not given."""
        given = vars(self).copy()
        del given["whole_wait"]
        return given | {"whole": when_whole(self.whole, self.whole_wait) or None}


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """What is said of some cells, named by their axes."""

    include: Annotated[_Axis, _rows("--include", "Further cells.")] = None
    exclude: Annotated[_Axis, _rows("--exclude", "Leave these cells out.")] = None
    expect: Annotated[_Axis, _rows("--expect", "The verdict of some cells: 'verdict=bad; cmdline=pcie_aspm=off'.")] = (
        None
    )
    unstable: Annotated[
        _Axis, _rows("--unstable", "Cells whose verdict does not count, and why: 'reason=TEXT; machine=q35'.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the cells are run."""

    repeat: Annotated[int | None, typer.Option(min=1, help="Run each cell this many times.", show_default=False)] = None
    limit: Annotated[
        float | None, typer.Option(min=1, help="Wall seconds a cell may take; 600 by default. A slower one is broken.")
    ] = None
    fresh: Fresh = False
    time: Annotated[
        str, typer.Option("--time", help="How a guest's idle time passes under TCG: auto, real or warped.")
    ] = ""
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Allow more than 100,000 cells.")] = False

    def fields(self) -> dict[str, Any]:
        """Return the keys of a matrix file."""
        return {"repeat": self.repeat, "limit": self.limit, "fresh": self.fresh or None, "time": self.time or None}


_AGAINST = "Compare with an earlier --json; exit 1 on a regression, or if a new cell is not as expected."


@spliced
def matrix(
    axes: AxisOptions,
    rules: RuleOptions,
    how: RunOptions,
    reports: ReportOptions,
    names: Annotated[list[str] | None, typer.Argument(metavar="FILE.yaml|SCENARIO...", show_default=False)] = None,
    path: PathName = None,
    jobs: Jobs = None,
    workers: WorkersName = "",
    against: Annotated[Path | None, typer.Option("--against", help=_AGAINST, show_default=False)] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="RUNDIR", help="Resume an interrupted matrix.", show_default=False),
    ] = None,
    rundir: Rundir = RUNS,
) -> None:
    """Run every combination of scenarios, machines, command lines and more, from a file or from options.

    Options replace an axis of the file, and add to its rules. Exits with 0 if every verdict is the expected one (good,
    where none is given), 1 if one is not, 125 if some could not run, 128 if some could not be judged; with --against,
    with 1 if a verdict got worse or a new cell's is not the expected one, else with 0.
    """
    options = _options(axes, rules, how)
    baseline = read_baseline(against) if against else None
    reports.check()
    source = _resumed(resume, names or [], options) if resume else _source(names or [], options)
    cells = expand(source, many=how.yes, progress=show_progress)
    frame = CommandFrame(resume or rundir, stdout_for_programs=reports.json_on_stdout, resumed=resume is not None)
    kvm = any(value.label == "kvm" for value in cells.axes.values[list(DEFAULTS).index("accel")])
    executor = executor_for(workers, jobs=jobs or core_count(), limit=cells.file.limit, kvm=kvm, console=frame.console)
    run = _Run(matrix=cells, source=source, frame=frame, baseline=baseline, reports=reports)
    raise typer.Exit(run.run(executor))


def _options(axes: AxisOptions, rules: RuleOptions, how: RunOptions) -> dict[str, Any]:
    """Return what is given, by the keys of a matrix file."""
    rows = {key: [option_row(text) for text in texts] for key, texts in vars(rules).items() if texts}
    return {key: value for key, value in {**axes.fields(), **how.fields()}.items() if value is not None} | rows


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One run of a matrix, to its end or until it is interrupted."""

    matrix: Matrix
    source: MatrixSource
    frame: CommandFrame
    baseline: dict[Key, Summary] | None
    reports: ReportOptions

    def run(self, executor: Executor) -> int:
        """Run the cells, print and write what came of them, and return the exit code.

        What ends the run from inside is raised after what is there has been shown.
        """
        with self.frame as frame, Results(frame.folder) as results:
            (frame.folder / RECORD).write_text(self.source.record)
            campaign = MatrixCampaign(matrix=self.matrix, executor=executor, folder=frame.folder, results=results)
            ended, progress = self._run(campaign)
            if isinstance(ended, InputError):
                raise ended
            code = self._show(campaign, progress)
        if ended is not None:
            where = escape(str(frame.folder))
            frame.console.print(f"resume: testbed matrix --resume {where}", highlight=False, soft_wrap=True)
        if isinstance(ended, BedError):
            raise ended
        return 130 if ended else code

    def _run(self, campaign: MatrixCampaign) -> tuple[BedError | typer.Exit | None, MatrixProgress]:
        """Run the cells; return what ended that early."""
        with MatrixProgress(self.frame.console) as progress:
            try:
                self.frame.run(campaign.run(progress))
            except (BedError, typer.Exit) as error:
                return error, progress
        return None, progress

    def _show(self, campaign: MatrixCampaign, progress: MatrixProgress) -> int:
        results, before, console = campaign.results, progress.before, self.frame.console
        tally = print_matrix(self.matrix, results.runs(), console, seconds=progress.seconds, before=before)
        code = tally.code
        if self.baseline is not None:
            comparison = compare(self.baseline, summarized((run.row, run.outcome) for run in results.runs()))
            print_comparison(comparison, console)
            code = 2 if code == 2 else int(not comparison.passes)
        self._write(campaign)
        return code

    def _write(self, campaign: MatrixCampaign) -> None:
        report = self.frame.folder / REPORT
        with report.open("w", encoding="utf-8") as file:
            write_matrix_json(campaign.report_head(), campaign.results.runs, file)
        if self.reports.json is not None:
            write_text(report.read_text(encoding="utf-8"), self.reports.json)
        if self.reports.for_cells:
            self.reports.write([run.outcome for run in campaign.results.runs()])


def _source(names: Sequence[str], options: dict[str, Any]) -> MatrixSource:
    """Return the matrix of a file, of scenarios, or of both."""
    files = [name for name in names if name.endswith(_YAML) and not (Path(name).is_file() and is_scenario_file(name))]
    scenarios = [name for name in names if name not in files]
    if len(files) > 1:
        raise InputError(f"matrix: {len(files)} files given", hint="give one; options can replace its axes")
    if not names:
        raise InputError(
            "matrix: nothing to run", hint="name a file or scenarios: testbed matrix disk-unplug -m q35 -m i440fx"
        )
    return read_source(Path(files[0]) if files else None, {**({"scenario": scenarios} if scenarios else {}), **options})


def _resumed(rundir: Path, names: Sequence[str], options: Mapping[str, Any]) -> MatrixSource:
    """Return the matrix that a rundir remembers."""
    if names or options:
        other = ", ".join([*names, *(f"--{key}" for key in options)])
        raise InputError(
            f"matrix: --resume {rundir} continues the matrix started there; {other} would change it",
            hint=f"testbed matrix --resume {rundir}",
        )
    if read_claim(rundir) is Claim.LIVE:
        raise InputError(f"rundir {rundir}: its matrix is still running")
    return recorded_source(rundir / RECORD)

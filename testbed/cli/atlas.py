"""`testbed atlas`: the documented bugs over kernels and QEMUs, and since which version each is what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from testbed import __version__
from testbed.campaign.atlas.ahead import Columns, check_unchanged
from testbed.campaign.atlas.atlas import FIRMWARES, RECORD, Atlas, AtlasPlan, Cross, recorded_plan
from testbed.campaign.atlas.survey import survey
from testbed.campaign.case import load_case
from testbed.campaign.matrix.results import Results
from testbed.campaign.matrix.run import MatrixCampaign
from testbed.cli.atlas_page import AtlasPage, write_page
from testbed.cli.frame import CommandFrame
from testbed.cli.options import RUNS, Jobs, PaceOptions, PathName, ReportOptions, Rundir, spliced
from testbed.cli.terminal import check_writable, show_progress
from testbed.cli.workers import WorkersName, executor_for
from testbed.host.claim import Claim, read_claim
from testbed.host.qemu_catalog import known_qemus
from testbed.host.slots import core_count
from testbed.image.recipe import STOCK, load_recipe
from testbed.model.catalog import CASES, unknown
from testbed.model.errors import BedError, InputError
from testbed.model.outcome import CaseResult
from testbed.report.atlas import atlas_html, atlas_json, atlas_page, print_atlas
from testbed.report.matrix import MatrixProgress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.campaign.execution.executor import Executor
    from testbed.model.atlas import AtlasReport
    from testbed.model.outcome import Outcome
    from testbed.model.spec import FirmwareKind

#: what a rundir has of what came of the atlas
REPORT, PAGE, HTML = "report.json", "atlas.md", "atlas.html"
#: wall seconds a cell may take
_LIMIT = 600.0

_IMAGE = "A kernel: an image recipe or kernel, as for run. Repeat it; debian by default."
_QEMU = "A QEMU: a suite to fetch it from, or as for run. Repeat it; every QEMU of this host by default."
_FIRMWARE = "seabios (the default) or ovmf. Repeat it."
_CROSS = (
    "kernels, qemus or firmwares: all of them with the first of the others; corners: the oldest and newest of kernels "
    "and QEMUs; star: these four; full: all."
)
_EXCEPT = "A case to leave out. Repeat it."


@spliced
def atlas(
    pace: PaceOptions,
    reports: ReportOptions,
    names: Annotated[list[str] | None, typer.Argument(metavar="CASE...", show_default=False)] = None,
    image: Annotated[list[str] | None, typer.Option("--image", "--kernel", help=_IMAGE, show_default=False)] = None,
    qemu: Annotated[list[str] | None, typer.Option("--qemu", help=_QEMU, show_default=False)] = None,
    firmware: Annotated[list[str] | None, typer.Option("--firmware", help=_FIRMWARE, show_default=False)] = None,
    without: Annotated[list[str] | None, typer.Option("--except", help=_EXCEPT, show_default=False)] = None,
    cross: Annotated[Cross | None, typer.Option("--cross", help=_CROSS, show_default="star")] = None,
    no_fetch: Annotated[bool, typer.Option("--no-fetch", help="Fetch no QEMU; use those already here.")] = False,
    page: AtlasPage = None,
    path: PathName = None,
    jobs: Jobs = None,
    workers: WorkersName = "",
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="RUNDIR", help="Resume an interrupted atlas.", show_default=False),
    ] = None,
    rundir: Rundir = RUNS,
) -> None:
    """Run documented bugs on many kernels and QEMUs: where is each reproduced, and since which version?

    What it needs is fetched ahead. Exits with 0 if every case is reproduced wherever it could run, 1 if one differs,
    128 if one could not be judged, 125 if nothing could run.
    """
    reports.check()
    if page is not None:
        check_writable(page)
    if resume:
        plan = _resumed(resume, names or image or qemu or firmware or without or cross or pace != PaceOptions())
    else:
        cases, firmwares = _cases(names, without or []), _firmwares(firmware or [])
        columns = _columns(image or [STOCK], qemu or list(known_qemus()), fetch=not no_fetch)
        plan = AtlasPlan(
            cases=cases,
            kernels=columns.kernels,
            qemus=columns.qemus,
            firmwares=firmwares,
            gaps=columns.gaps,
            cross=cross or "star",
            testbed=__version__,
            **pace.pace(),
        )
    frame = CommandFrame(resume or rundir, stdout_for_programs=reports.json_on_stdout, resumed=resume is not None)
    executor = executor_for(workers, jobs=jobs or core_count(), limit=_LIMIT, kvm=False, console=frame.console)
    report, outcomes, ended = _run(Atlas(plan=plan), frame, executor)
    reports.write(outcomes, json=atlas_json(report))
    if page is not None:
        write_page(report, page)
    if isinstance(ended, BedError):
        raise ended
    raise typer.Exit(130 if ended else _exit_code(report))


def _cases(names: Sequence[str] | None, without: Sequence[str]) -> list[str]:
    """Return the cases that are asked for; raise InputError for an unknown one, or if none is left."""
    for name in (*(names or []), *without):
        load_case(name)
    cases = [name for name in dict.fromkeys(names or CASES.names()) if name not in without]
    if not cases:
        raise InputError("atlas: no cases left", hint="see: testbed list cases")
    return cases


def _firmwares(names: Sequence[str]) -> list[FirmwareKind]:
    """Return the firmwares that are asked for; raise InputError for an unknown one."""
    for name in names:
        if name not in FIRMWARES:
            raise unknown("firmware", name, FIRMWARES)
    return [each for name in dict.fromkeys(names) for each in FIRMWARES if each == name] or [FIRMWARES[0]]


def _columns(images: Sequence[str], qemus: Sequence[str], *, fetch: bool) -> Columns:
    """Return what could be had of what is asked for; raise InputError if that is nothing."""
    for name in images:
        load_recipe(name)
    columns = Columns(images, qemus, fetch=fetch, progress=show_progress)
    if not columns.kernels or not columns.qemus:
        raise InputError(
            f"atlas: none of these is available: {columns.gaps[0].why}",
            hint="see: testbed qemu list, testbed image list",
        )
    return columns


def _resumed(rundir: Path, others: object) -> AtlasPlan:
    """Return the atlas that a rundir remembers."""
    if others:
        raise InputError(
            f"atlas: --resume {rundir} continues the atlas started there; its cases, columns "
            "and run options cannot be changed",
            hint=f"testbed atlas --resume {rundir}",
        )
    if read_claim(rundir) is Claim.LIVE:
        raise InputError(f"rundir {rundir}: its atlas is still running")
    plan = recorded_plan(rundir / RECORD)
    check_unchanged(plan, progress=show_progress)
    return plan


def _run(
    atlas: Atlas, frame: CommandFrame, executor: Executor
) -> tuple[AtlasReport, list[Outcome], BedError | typer.Exit | None]:
    """Run what has no result yet; return what is known then, of which cells, and what ended it early."""
    ended: BedError | typer.Exit | None = None
    with frame, Results(frame.folder) as results:
        (frame.folder / RECORD).write_text(atlas.plan.record)
        frame.console.print(f"[bold]{escape(atlas.title)}[/bold]", highlight=False)
        campaign = MatrixCampaign(matrix=atlas, executor=executor, folder=frame.folder, results=results)
        with MatrixProgress(frame.console) as progress:
            try:
                frame.run(campaign.run(progress))
            except (BedError, typer.Exit) as error:
                ended = error
        report = survey(atlas, results.runs())
        print_atlas(report, frame.console)
        (frame.folder / REPORT).write_text(atlas_json(report), encoding="utf-8")
        (frame.folder / PAGE).write_text(atlas_page(report), encoding="utf-8")
        (frame.folder / HTML).write_text(atlas_html(report), encoding="utf-8")
        if ended:
            where = escape(str(frame.folder))
            frame.console.print(f"resume: testbed atlas --resume {where}", highlight=False, soft_wrap=True)
        outcomes = [run.outcome for run in results.runs()]
    return report, outcomes, ended


def _exit_code(report: AtlasReport) -> int:
    results = {result.result for case in report.cases for result in case.results}
    if CaseResult.BROKEN in results:
        return 128
    if CaseResult.DIFFERS in results:
        return 1
    return 0 if CaseResult.REPRODUCED in results else 125

"""Run one cell: from its description to its outcome, with everything it leaves in its rundir."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from testbed.campaign.judge import Ruling, rule
from testbed.campaign.start import Fresh, Start, Warm, chosen_start
from testbed.host.accel import Accel, choose_accel
from testbed.image.store import Image, ensure_image
from testbed.machine.argv import Boot
from testbed.machine.launch import launch
from testbed.machine.qemu_choice import choose_qemu
from testbed.machine.reproduce import write_reproduction
from testbed.machine.snapshot_store import SnapshotStore
from testbed.machine.template import Template, load_template
from testbed.model.cmdline import CommandLine
from testbed.model.errors import SnapshotError, WarpError
from testbed.model.outcome import Judgement, Outcome
from testbed.scenarios.scenario import Scenario, find_scenario
from testbed.scenarios.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from testbed.guest.guest import Guest
    from testbed.host.host import Host
    from testbed.host.qemu import Qemu
    from testbed.machine.launch import Machine
    from testbed.model.errors import LackingError
    from testbed.model.outcome import Cell
    from testbed.model.spec import MachineSpec

    Progress = Callable[[str], None]
    OnVerdict = Callable[["Judged"], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A cell whose every input has been found and checked, before anything is started."""

    cell: Cell
    scenario: Scenario
    template: Template
    spec: MachineSpec
    cmdline: CommandLine
    qemu: Qemu
    accel: Accel
    image: Image

    @property
    def warped(self) -> bool:
        """Return whether guest time is warped: where it can be, and the scenario says that it may be."""
        wanted = self.cell.time == "warped" or (self.cell.time == "auto" and self.scenario.warp_safe)
        return wanted and self.accel.name == "tcg"

    @property
    def boot(self) -> Boot:
        """Return what the machine starts: the ELF kernel where it has a PVH entry, else the bzImage."""
        return Boot(
            kernel=self.image.kernel_file,
            initramfs=self.image.initramfs,
            cmdline=self.cmdline.with_prefix(),
        )


def prepare(cell: Cell, *, progress: Progress) -> Prepared:
    """Find and check all that a cell names, and build its image if need be.

    Raises:
        LackingError: there is no such QEMU, or it lacks what the machine needs.
        InputError: anything else that the cell names is wrong.
    """
    scenario = find_scenario(cell.scenario)
    template = load_template(cell.machine)
    spec = template.spec(cell.parameters)
    cmdline = CommandLine(cell.cmdline)
    cmdline.check()
    qemu = choose_qemu(cell.qemu, spec)
    accel = choose_accel(cell.accel, qemu)
    return Prepared(
        cell=cell,
        scenario=scenario,
        template=template,
        spec=spec,
        cmdline=cmdline,
        qemu=qemu,
        accel=accel,
        image=ensure_image(cell.image, progress=progress),
    )


def cell_qemu(cell: Cell) -> Qemu:
    """Return the QEMU of a cell; raise as `prepare` does."""
    return choose_qemu(cell.qemu, load_template(cell.machine).spec(cell.parameters))


@dataclass(kw_only=True)
class _Run:
    """What is known of a cell while it runs; a failure half way leaves the rest empty."""

    asked: str | None = None
    kernel_cmdline: str = ""
    start: Literal["fresh", "warm"] = "fresh"
    note: str = ""
    guest_seconds: float | None = None
    guest: Guest | None = None
    started: float = field(default_factory=time.monotonic)

    def remark(self, note: str) -> None:
        """Add to what the outcome notes on how the cell was run."""
        self.note = f"{self.note}; {note}" if self.note else note


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A cell with its outcome, while its machine still runs."""

    outcome: Outcome
    machine: Machine
    guest: Guest | None  #: None if it never answered
    progress: Progress


async def run_cell(
    prepared: Prepared, *, host: Host, rundir: Path, progress: Progress, on_verdict: OnVerdict | None = None
) -> Outcome:
    """Run a prepared cell and return its outcome; whatever goes wrong in it becomes its verdict.

    With `on_verdict` the machine is launched so that people can reach it, and ends only after that returns.
    """
    rundir.mkdir(parents=True, exist_ok=True)
    (rundir / "machine.yaml").write_text(prepared.template.render(prepared.cell.parameters))
    run = _Run()
    place = _Place(host=host, rundir=rundir, progress=progress, on_verdict=on_verdict)
    try:
        return await _try_in_time(prepared, run, place)
    except Exception as error:
        return _conclude(prepared, run, rule(error, asked=run.asked), rundir)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a cell runs, and who hears of it."""

    host: Host
    rundir: Path
    progress: Progress
    on_verdict: OnVerdict | None


async def _try_in_time(prepared: Prepared, run: _Run, place: _Place) -> Outcome:
    """Try the cell, and once more in real time if its guest is too busy for warped time to be of use."""
    try:
        return await _start_and_try(prepared, run, place)
    except WarpError as error:
        run = _Run(started=run.started, note=f"{error}; run again in real time")
        place.progress(run.note)
        real = replace(prepared, cell=prepared.cell.model_copy(update={"time": "real"}))
        return await _start_and_try(real, run, place)


async def _start_and_try(prepared: Prepared, run: _Run, place: _Place) -> Outcome:
    """Try the cell from a saved state if there is one that can be used, else from a boot of its own."""
    # a machine that people may look into is one of its own, from its boot on
    store = SnapshotStore() if prepared.cell.start == "auto" and place.on_verdict is None else None
    try:
        async with chosen_start(prepared, store, note=run.remark) as start:
            return await _try(prepared, run, place, start)
    except SnapshotError as error:
        run.remark(f"{error}; booted fresh")
        place.progress(run.note)
        if store is not None and isinstance(start, Warm):
            store.remove(start.snapshot)
        return await _try(prepared, run, place, Fresh(modules=prepared.scenario.modules))


async def _try(prepared: Prepared, run: _Run, place: _Place, start: Start) -> Outcome:
    place.progress("starting")
    run.start = start.kind
    rundir, progress, on_verdict = place.rundir, place.progress, place.on_verdict
    async with (
        launch(
            prepared.spec,
            prepared.boot,
            host=place.host,
            qemu=prepared.qemu,
            accel=prepared.accel,
            rundir=rundir,
            attachable=on_verdict is not None,
            warped=prepared.warped,
            incoming=start.kind == "warm",
        ) as machine,
        contextlib.AsyncExitStack() as stack,
    ):
        title = prepared.cell.id
        try:
            progress("booting" if start.kind == "fresh" else "resuming")
            ruling = await _ruling(prepared, run, stack, start.guest(machine), progress)
            title = f"{title}: {ruling.verdict}, {ruling.reason}"
        finally:
            write_reproduction(machine, title=title)
        outcome = _conclude(prepared, run, ruling, rundir)
        if on_verdict:
            await on_verdict(Judged(outcome=outcome, machine=machine, guest=run.guest, progress=progress))
    return outcome


async def _ruling(
    prepared: Prepared,
    run: _Run,
    stack: contextlib.AsyncExitStack,
    starting: AbstractAsyncContextManager[Guest],
    progress: Progress,
) -> Ruling:
    """Have the guest for as long as the stack is open, run the scenario and rule on what comes of it."""
    try:
        run.guest = await stack.enter_async_context(starting)
        return _agreed(await _judge(prepared, run, run.guest, progress))
    except (SnapshotError, WarpError):
        raise
    except Exception as error:
        return rule(error, asked=run.asked)


async def _judge(prepared: Prepared, run: _Run, guest: Guest, progress: Progress) -> Judgement:
    run.kernel_cmdline = guest.hello.cmdline
    trial = Trial(guest=guest, progress=progress)
    progress("proving the starting state")
    try:
        judgement = await prepared.scenario.run(trial)
    finally:
        run.asked = trial.asked
    run.guest_seconds = judgement.guest_seconds
    return judgement


def _agreed(judgement: Judgement) -> Ruling:
    return Ruling(
        verdict=judgement.verdict,
        outcome=judgement.outcome,
        reason=judgement.reason,
        hint=None,
        findings=judgement.findings,
    )


def _conclude(prepared: Prepared, run: _Run, ruling: Ruling, rundir: Path) -> Outcome:
    """Return the outcome, and write it into the rundir."""
    return _write(
        rundir,
        **_identity(prepared),
        **_said(ruling),
        kernel_cmdline=run.kernel_cmdline,
        start=run.start,
        note=run.note,
        time="warped" if prepared.warped else "real",
        guest_seconds=run.guest_seconds,
        wall_seconds=round(time.monotonic() - run.started, 3),
    )


def skip_cell(cell: Cell, error: LackingError, *, rundir: Path) -> Outcome:
    """Return the outcome of a cell that no QEMU here can run, and write it into the rundir."""
    rundir.mkdir(parents=True, exist_ok=True)
    template = load_template(cell.machine)
    spec = template.spec(cell.parameters)
    (rundir / "machine.yaml").write_text(template.render(cell.parameters))
    return _write(
        rundir,
        **_named(cell, template, spec),
        **_said(rule(error, asked=None)),
        kernel_cmdline="",
        image=cell.image,
        kernel="",
        qemu=cell.qemu,
        cpu=spec.cpu,
        accel=cell.accel,
        guest_seconds=None,
        wall_seconds=0.0,
    )


def _write(rundir: Path, **fields: Any) -> Outcome:
    outcome = Outcome(**fields, rundir=str(rundir))
    (rundir / "outcome.json").write_text(outcome.model_dump_json(indent=1) + "\n")
    return outcome


def _said(ruling: Ruling) -> dict[str, Any]:
    return {
        "verdict": ruling.verdict,
        "outcome": ruling.outcome,
        "reason": ruling.reason,
        "hint": ruling.hint,
        "findings": ruling.findings,
    }


def _identity(prepared: Prepared) -> dict[str, Any]:
    cell, qemu, image = prepared.cell, prepared.qemu, prepared.image
    return {
        **_named(cell, prepared.template, prepared.spec),
        "image": f"{image.name} {image.id[:12]}",
        "kernel": image.package,
        "qemu": f"{qemu.path} {qemu.version}",
        "cpu": prepared.accel.cpu(prepared.spec.cpu),
        "accel": prepared.accel.name,
        "accel_reason": prepared.accel.reason,
        "boot": image.boot,
    }


def _named(cell: Cell, template: Template, spec: MachineSpec) -> dict[str, Any]:
    return {
        "id": cell.id,
        "scenario": cell.scenario,
        "machine": cell.machine,
        "machine_type": spec.machine_type,
        "parameters": template.values(cell.parameters),
        "cmdline": cell.cmdline,
        "expected": cell.expected,
        "role": cell.role,
    }

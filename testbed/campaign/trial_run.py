"""Run one cell: from its description to its outcome, with everything it leaves in its rundir."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from testbed.campaign.judge import Ruling, rule
from testbed.campaign.start import Start, Warm, chosen_start, fresh_start
from testbed.campaign.stock import HostStock
from testbed.machine.argv import Boot
from testbed.machine.launch import launch
from testbed.machine.pvh import starts_elf
from testbed.machine.qemu_choice import check_age, choose_qemu
from testbed.machine.reproduce import write_reproduction
from testbed.machine.snapshot_store import SnapshotStore
from testbed.machine.template import load_template
from testbed.model.cmdline import CommandLine
from testbed.model.errors import BrokenError, InputError, SnapshotError, WarpError
from testbed.model.outcome import Judgement, Outcome
from testbed.scenarios.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from testbed.campaign.stock import Stock
    from testbed.guest.guest import Guest
    from testbed.host.accel import Accel
    from testbed.host.host import Host
    from testbed.host.qemu import Qemu
    from testbed.image.store import Image
    from testbed.machine.launch import Machine
    from testbed.machine.template import Template
    from testbed.model.errors import BedError
    from testbed.model.outcome import Cell
    from testbed.model.spec import MachineSpec
    from testbed.scenarios.scenario import Scenario

    Progress = Callable[[str], None]
    OnVerdict = Callable[["Judged"], Awaitable[None]]
    OnReady = Callable[[Guest], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A cell whose every input has been found and checked, before anything is started."""

    cell: Cell
    scenario: Scenario
    options: Mapping[str, Any]  #: every option of the scenario
    template: Template
    machine: str  #: the YAML of the machine
    spec: MachineSpec
    cmdline: CommandLine
    qemu: Qemu
    accel: Accel
    image: Image

    @property
    def warped(self) -> bool:
        """Return whether guest time is warped: where it can be, and the scenario says that it may be."""
        # with a second CPU, Linux 6.1 stops in early boot under -icount (QEMU 7.2)
        can = self.accel.name == "tcg" and self.spec.cpus == 1
        return can and (self.cell.time == "warped" or (self.cell.time == "auto" and self.scenario.warp_safe))

    @property
    def boot(self) -> Boot:
        """Return what the machine starts: the ELF kernel where it has a PVH entry, else the bzImage."""
        return Boot(
            kernel=self.image.kernel_file,
            initramfs=self.image.initramfs,
            cmdline=self.cmdline.with_prefix(),
        )


def prepare(cell: Cell, *, progress: Progress, stock: Stock | None = None) -> Prepared:
    """Find and check all that a cell names, and build its image if need be.

    With a `stock` that prepared other cells, what they had in common is not looked for again.

    Raises:
        LackingError: there is no such QEMU, or it lacks what the machine needs.
        InputError: anything else that the cell names is wrong.
    """
    stock = stock or HostStock()
    scenario = stock.scenario(cell)
    options = scenario.values(cell.options)
    machine = stock.machine(cell)
    cmdline = CommandLine(cell.cmdline)
    cmdline.check()
    qemu = stock.qemu(cell, machine.spec)
    check_age(qemu, cell.qemu_before)
    accel = stock.accel(cell, qemu)
    return Prepared(
        cell=cell,
        scenario=scenario,
        options=options,
        template=machine.template,
        machine=machine.text,
        spec=machine.spec,
        cmdline=cmdline,
        qemu=qemu,
        accel=accel,
        image=_startable(stock.image(cell, progress), machine.spec),
    )


def _startable(image: Image, spec: MachineSpec) -> Image:
    """Return the image, without its vmlinux where the machine cannot start that and there is a bzImage."""
    if image.bzimage is None or starts_elf(spec.machine_type):
        return image
    return replace(image, vmlinux=None)


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
    modelled: str = ""
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
    prepared: Prepared,
    *,
    host: Host,
    rundir: Path,
    progress: Progress,
    on_verdict: OnVerdict | None = None,
    on_ready: OnReady | None = None,
    limit: float | None = None,
) -> Outcome:
    """Run a prepared cell and return its outcome; whatever goes wrong in it becomes its verdict.

    With `on_verdict` the machine is launched so that people can reach it, and ends only after that returns. `on_ready`
    is given the guest with the scenario's drivers loaded, before the scenario begins. A cell that takes longer than
    `limit` wall seconds is ended, and broken.
    """
    with _told(rundir):
        rundir.mkdir(parents=True, exist_ok=True)
        (rundir / "machine.yaml").write_text(prepared.machine)
    run = _Run()
    place = _Place(host=host, rundir=rundir, progress=progress, on_verdict=on_verdict, on_ready=on_ready)
    try:
        async with asyncio.timeout(limit) as clock:
            return await _try_in_time(prepared, run, place)
    except Exception as error:
        ended = _over_limit(limit) if clock.expired() else error
        return _conclude(prepared, run, rule(ended, asked=run.asked), rundir)


def _over_limit(limit: float | None) -> BrokenError:
    return BrokenError(
        f"the cell took longer than its limit of {limit:g} wall seconds, and was ended",
        hint="is the host busy? give cells more time: --limit SECONDS",
    )


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a cell runs, and who hears of it."""

    host: Host
    rundir: Path
    progress: Progress
    on_verdict: OnVerdict | None
    on_ready: OnReady | None


async def _try_in_time(prepared: Prepared, run: _Run, place: _Place) -> Outcome:
    """Try the cell, and once more in real time if its guest is too busy for warped time to be of use."""
    try:
        return await _start_and_try(prepared, run, place)
    except WarpError as error:
        again = _Run(started=run.started, note=run.note)
        again.remark(f"{error}; run again in real time")
        place.progress(again.note)
        real = replace(prepared, cell=prepared.cell.model_copy(update={"time": "real"}))
        return await _start_and_try(real, again, place)


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
        return await _try(prepared, run, place, fresh_start(prepared))


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
            ruling = await _ruling(prepared, run, stack, start.guest(machine), place)
            title = f"{title}: {ruling.verdict}, {ruling.reason}"
        finally:
            try:
                write_reproduction(machine, title=title)
            except OSError as error:  # no reason to lose the verdict
                run.remark(f"reproduce.sh could not be written: {error.strerror}")
        outcome = _conclude(prepared, run, ruling, rundir)
        if on_verdict:
            await on_verdict(Judged(outcome=outcome, machine=machine, guest=run.guest, progress=progress))
    return outcome


async def _ruling(
    prepared: Prepared,
    run: _Run,
    stack: contextlib.AsyncExitStack,
    starting: AbstractAsyncContextManager[Guest],
    place: _Place,
) -> Ruling:
    """Have the guest for as long as the stack is open, run the scenario and rule on what comes of it."""
    try:
        run.guest = await stack.enter_async_context(starting)
        run.kernel_cmdline = run.guest.hello.cmdline
        if place.on_ready:
            await place.on_ready(run.guest)
        return _agreed(await _judge(prepared, run, run.guest, place.progress))
    except (SnapshotError, WarpError):
        raise
    except Exception as error:
        return rule(error, asked=run.asked)


async def _judge(prepared: Prepared, run: _Run, guest: Guest, progress: Progress) -> Judgement:
    trial = Trial(guest=guest, progress=progress, options=prepared.options)
    progress("proving the starting state")
    try:
        judgement = await prepared.scenario.run(trial)
    finally:
        run.asked = trial.asked
        run.modelled = trial.modelled
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
        modelled=run.modelled,
        guest_seconds=run.guest_seconds,
        wall_seconds=round(time.monotonic() - run.started, 3),
    )


def skip_cell(cell: Cell, error: BedError, *, rundir: Path, stock: Stock | None = None) -> Outcome:
    """Return the outcome of a cell that could not be prepared, and write it into the rundir.

    A cell that lacks something here is skipped; one whose input is wrong is broken, and rejected.
    """
    rundir.mkdir(parents=True, exist_ok=True)
    stock = stock or HostStock()
    given: dict[str, Any] = {"machine_type": "", "parameters": cell.parameters, "options": cell.options}
    cpu = ""
    with contextlib.suppress(InputError):
        machine = stock.machine(cell)
        given |= _described(machine.template, machine.spec, cell)
        cpu = machine.spec.cpu
        (rundir / "machine.yaml").write_text(machine.text)
        given["options"] = stock.scenario(cell).values(cell.options)
    ruling = rule(error, asked=None)
    # no QEMU was started that could have left a log
    evidence = "machine.yaml" if cpu else "outcome.json"
    findings = tuple(each.model_copy(update={"evidence": evidence}) for each in ruling.findings)
    return _write(
        rundir,
        **_named(cell),
        **given,
        **_said(replace(ruling, findings=findings)),
        kernel_cmdline="",
        image=cell.image,
        kernel="",
        qemu=cell.qemu,
        cpu=cpu,
        accel=cell.accel,
        guest_seconds=None,
        wall_seconds=0.0,
    )


def _write(rundir: Path, **fields: Any) -> Outcome:
    outcome = Outcome(**fields, rundir=str(rundir))
    with _told(rundir, f"; the cell was {outcome.verdict}: {outcome.reason}"):
        (rundir / "outcome.json").write_text(outcome.model_dump_json(indent=1) + "\n")
    return outcome


@contextlib.contextmanager
def _told(rundir: Path, also: str = "") -> Iterator[None]:
    """Raise BrokenError where a rundir cannot be written: no cell after this one could be."""
    try:
        yield
    except OSError as error:
        raise BrokenError(
            f"rundir {rundir}: {error.strerror}{also}", hint="free disk space, or name another folder: --rundir FOLDER"
        ) from None


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
        **_named(cell),
        **_described(prepared.template, prepared.spec, cell),
        "options": dict(prepared.options),
        "image": f"{image.name} {image.id[:12]}",
        "kernel": image.package,
        "qemu": f"{qemu.path} {qemu.version}",
        "cpu": prepared.accel.cpu(prepared.spec.cpu),
        "accel": prepared.accel.name,
        "accel_reason": prepared.accel.reason,
        "boot": image.boot,
    }


def _named(cell: Cell) -> dict[str, Any]:
    return {
        "id": cell.id,
        "scenario": cell.scenario,
        "machine": cell.machine,
        "cmdline": cell.cmdline,
        "expected": cell.expected,
        "role": cell.role,
    }


def _described(template: Template, spec: MachineSpec, cell: Cell) -> dict[str, Any]:
    return {"machine_type": spec.machine_type, "parameters": template.values(cell.parameters)}

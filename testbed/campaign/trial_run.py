"""Run one cell: from its description to its outcome, with everything it leaves in its rundir."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testbed.campaign.judge import Ruling, rule
from testbed.guest.guest import boot
from testbed.host.accel import Accel, choose_accel
from testbed.host.qemu import Qemu, find_qemu
from testbed.image.store import Image, ensure_image
from testbed.machine.argv import Boot
from testbed.machine.launch import check_spec, launch
from testbed.machine.reproduce import reproduction
from testbed.machine.template import Template, load_template
from testbed.model.cmdline import CommandLine
from testbed.model.outcome import Judgement, Outcome
from testbed.scenarios.scenario import Scenario, find_scenario
from testbed.scenarios.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from testbed.guest.guest import Guest
    from testbed.host.host import Host
    from testbed.model.outcome import Cell
    from testbed.model.spec import MachineSpec

    Progress = Callable[[str], None]


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
    def boot(self) -> Boot:
        """Return what the machine starts: the ELF kernel where it has a PVH entry, else the bzImage."""
        return Boot(
            kernel=self.image.vmlinux or self.image.bzimage,
            initramfs=self.image.initramfs,
            cmdline=self.cmdline.with_prefix(),
        )


def prepare(cell: Cell, *, progress: Progress) -> Prepared:
    """Find and check all that a cell names, and build its image if need be; raise InputError for what is wrong."""
    scenario = find_scenario(cell.scenario)
    template = load_template(cell.machine)
    spec = template.spec(cell.parameters)
    cmdline = CommandLine(cell.cmdline)
    cmdline.check()
    accel = choose_accel(cell.accel)
    qemu = find_qemu(cell.qemu)
    check_spec(spec, qemu)
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


@dataclass(kw_only=True)
class _Run:
    """What is known of a cell while it runs; a failure half way leaves the rest empty."""

    asked: str | None = None
    kernel_cmdline: str = ""
    guest_seconds: float | None = None
    judgement: Judgement | None = None
    started: float = field(default_factory=time.monotonic)


async def run_cell(prepared: Prepared, *, host: Host, rundir: Path, progress: Progress) -> Outcome:
    """Run a prepared cell and return its outcome; whatever goes wrong in it becomes its verdict."""
    rundir.mkdir(parents=True, exist_ok=True)
    (rundir / "machine.yaml").write_text(prepared.template.render(prepared.cell.parameters))
    run = _Run()
    try:
        run.judgement = await _try(prepared, run, host=host, rundir=rundir, progress=progress)
        ruling = _agreed(run.judgement)
    except Exception as error:
        ruling = rule(error, asked=run.asked)
    outcome = _outcome(prepared, run, ruling, rundir)
    (rundir / "outcome.json").write_text(outcome.model_dump_json(indent=1) + "\n")
    return outcome


async def _try(prepared: Prepared, run: _Run, *, host: Host, rundir: Path, progress: Progress) -> Judgement:
    progress("starting")
    async with launch(
        prepared.spec, prepared.boot, host=host, qemu=prepared.qemu, accel=prepared.accel, rundir=rundir
    ) as machine:
        title = prepared.cell.id
        try:
            progress("booting")
            async with boot(machine) as guest:
                run.kernel_cmdline = guest.hello.cmdline
                trial = Trial(guest=guest, progress=progress)
                progress("proving the starting state")
                try:
                    judgement = await prepared.scenario.run(trial)
                finally:
                    run.asked = trial.asked
                    run.guest_seconds = await _time(guest)
                title = f"{title}: {judgement.verdict}, {judgement.reason}".replace("\n", " ")
                return judgement
        finally:
            script = rundir / "reproduce.sh"
            script.write_text(reproduction(machine, machine.journal.steps, title=title))
            script.chmod(0o755)


async def _time(guest: Guest) -> float:
    """Return the guest's time, or that of its last words if it no longer answers."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(1):
            return round(await guest.shell.clock(), 3)
    return round(guest.shell.seconds, 3)


def _agreed(judgement: Judgement) -> Ruling:
    return Ruling(
        verdict=judgement.verdict,
        outcome=judgement.outcome,
        reason=judgement.reason,
        hint=None,
        findings=judgement.findings,
    )


def _outcome(prepared: Prepared, run: _Run, ruling: Ruling, rundir: Path) -> Outcome:
    return Outcome(
        **_identity(prepared),
        kernel_cmdline=run.kernel_cmdline,
        verdict=ruling.verdict,
        outcome=ruling.outcome,
        reason=ruling.reason,
        hint=ruling.hint,
        findings=ruling.findings,
        guest_seconds=run.guest_seconds,
        wall_seconds=round(time.monotonic() - run.started, 3),
        rundir=str(rundir),
    )


def _identity(prepared: Prepared) -> dict[str, Any]:
    cell, qemu, image = prepared.cell, prepared.qemu, prepared.image
    return {
        "id": cell.id,
        "scenario": cell.scenario,
        "machine": cell.machine,
        "machine_type": prepared.spec.machine_type,
        "parameters": prepared.template.values(cell.parameters),
        "cmdline": cell.cmdline,
        "image": f"{image.name} {image.id[:12]}",
        "kernel": image.package,
        "qemu": f"{qemu.path} {qemu.version}",
        "cpu": prepared.accel.cpu(prepared.spec.cpu),
        "accel": prepared.accel.name,
        "boot": "pvh" if image.vmlinux else "bzimage",
        "expected": cell.expected,
        "role": cell.role,
    }

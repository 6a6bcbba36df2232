"""The outcome of a cell, put together from what was prepared, what became of it and the ruling, and written down."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from testbed.campaign.cell.judge import rule
from testbed.campaign.record.rundir import DESCRIPTION, OUTCOME
from testbed.campaign.stock import HostStock
from testbed.model.errors import BrokenError, InputError
from testbed.model.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testbed.campaign.cell.judge import Ruling
    from testbed.campaign.prepared import PreparedCell
    from testbed.campaign.stock import Stock
    from testbed.guest.guest import Guest
    from testbed.machine.template import Template
    from testbed.model.errors import BedError
    from testbed.model.outcome import Cell
    from testbed.model.spec import MachineSpec


@dataclass(kw_only=True)
class Course:
    """How a cell goes, as far as it has come; a failure half way leaves the rest empty."""

    stimulus: str | None = None
    starved: float = 0.0  #: wall seconds since then in which the host gave QEMU no CPU
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


def conclude(prepared: PreparedCell, course: Course, ruling: Ruling, rundir: Path) -> Outcome:
    """Return the outcome, and write it into the rundir."""
    return _write(
        rundir,
        **_identity(prepared),
        **_ruled(ruling),
        kernel_cmdline=course.kernel_cmdline,
        user_space=str(course.guest.user_space) if course.guest and course.guest.user_space else "",
        start=course.start,
        note=course.note,
        time="warped" if prepared.warped else "real",
        modelled=course.modelled,
        guest_seconds=course.guest_seconds,
        wall_seconds=round(time.monotonic() - course.started, 3),
    )


def skip_cell(cell: Cell, error: BedError, *, rundir: Path, stock: Stock | None = None) -> Outcome:
    """Return the outcome of a cell that could not be prepared, and write it into the rundir.

    A cell that lacks something here is skipped; one whose input is wrong is broken, and rejected.
    """
    rundir.mkdir(parents=True, exist_ok=True)
    stock = stock or HostStock()
    description: dict[str, Any] = {"machine_type": "", "parameters": cell.parameters, "options": cell.options}
    cpu = ""
    with contextlib.suppress(InputError):
        machine = stock.machine(cell)
        description |= _described(machine.template, machine.rendered.spec, cell)
        cpu = machine.rendered.spec.cpu
        (rundir / DESCRIPTION).write_text(machine.rendered.text)
        description["options"] = stock.scenario(cell.scenario).values(cell.options)
    ruling = rule(error, stimulus=None)
    # no QEMU was started that could have left a log
    evidence = DESCRIPTION if cpu else "outcome.json"
    findings = tuple(each.model_copy(update={"evidence": evidence}) for each in ruling.findings)
    return _write(
        rundir,
        **_named(cell),
        **description,
        **_ruled(replace(ruling, findings=findings)),
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
    with writable(rundir, f"; the cell was {outcome.verdict}: {outcome.reason}"):
        (rundir / OUTCOME).write_text(outcome.model_dump_json(indent=1) + "\n")
    return outcome


@contextlib.contextmanager
def writable(rundir: Path, also: str = "") -> Iterator[None]:
    """Raise BrokenError where a rundir cannot be written: no cell after this one could be."""
    try:
        yield
    except OSError as error:
        raise BrokenError(
            f"rundir {rundir}: {error.strerror}{also}", hint="free disk space, or name another folder: --rundir FOLDER"
        ) from None


def _ruled(ruling: Ruling) -> dict[str, Any]:
    return {
        "verdict": ruling.verdict,
        "outcome": ruling.outcome,
        "reason": ruling.reason,
        "hint": ruling.hint,
        "findings": ruling.findings,
    }


def _identity(prepared: PreparedCell) -> dict[str, Any]:
    cell, qemu, image = prepared.cell, prepared.qemu, prepared.built
    versions = {"qemu": qemu.version, **({"kernel": image.kernel} if image else {})}
    return {
        **_named(cell),
        **_described(prepared.template, prepared.spec, cell),
        "because": tuple(each for each in cell.because if each.holds(**versions)),
        "options": dict(prepared.options),
        "image": f"{image.name} {image.id[:12]}" if image else cell.image,
        "kernel": image.package if image else "",
        "qemu": f"{qemu.path} {qemu.version}",
        "cpu": prepared.accel.cpu(prepared.spec.cpu),
        "accel": prepared.accel.name,
        "accel_reason": prepared.accel.reason,
        "boot": "efi" if prepared.firmware and image else image.boot if image else "loader",
    }


def _named(cell: Cell) -> dict[str, Any]:
    return {
        "id": cell.id,
        "scenario": cell.scenario,
        "machine": cell.machine,
        "cmdline": cell.cmdline,
        "first": cell.first,
        "whole": cell.whole,
        "expected": cell.expected,
        "expected_outcome": cell.expected_outcome,
        "because": cell.because,
        "role": cell.role,
    }


def _described(template: Template, spec: MachineSpec, cell: Cell) -> dict[str, Any]:
    return {"machine_type": spec.machine_type, "parameters": template.values(cell.parameters)}

"""Atlas: every cell of some cases on every place of a cross of kernels, QEMUs and firmwares; one kind of grid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbed.campaign.case import load_case, with_kernel
from testbed.campaign.matrix.grid import Grid
from testbed.machine.template import load_template
from testbed.model.atlas import AtlasColumn, AtlasGap  # noqa: TC001 (pydantic reads them)
from testbed.model.errors import InputError
from testbed.model.json_reader import parse_json
from testbed.model.matrix import MatrixRow
from testbed.model.spec import FirmwareKind
from testbed.model.version_rule import version_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from testbed.campaign.case import Case
    from testbed.model.outcome import Cell

#: a part of a star, all of it, or all pairs
Cross = Literal["kernels", "qemus", "corners", "firmwares", "star", "full"]
#: what a rundir remembers of an atlas
RECORD = "atlas.json"
FIRMWARES: tuple[FirmwareKind, ...] = get_args(FirmwareKind)
#: kernel and QEMU by their names, and the firmware
At = tuple[str, str, FirmwareKind]


class AtlasPlan(BaseModel):
    """What an atlas is made of; kept in its rundir, so that it can be resumed. The first of each axis is its centre."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    cases: list[str] = Field(min_length=1)
    kernels: list[AtlasColumn] = Field(min_length=1)
    qemus: list[AtlasColumn] = Field(min_length=1)
    firmwares: list[FirmwareKind] = Field(default=[FIRMWARES[0]], min_length=1)
    gaps: list[AtlasGap]
    cross: Cross
    testbed: str = ""
    start: Literal["auto", "fresh"] = "auto"
    time: Literal["auto", "real", "warped"] = "auto"

    @property
    def record(self) -> str:
        """Return it as JSON, to be read again with `recorded_plan`."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"

    @property
    def places(self) -> list[Place]:
        """Return where the cases are judged, versions ascending."""
        kernels, qemus = ascending(self.kernels), ascending(self.qemus)
        every = (
            Place(kernel=kernel, qemu=qemu, firmware=firmware)
            for kernel in kernels
            for qemu in qemus
            for firmware in self.firmwares
        )
        return [at for at in every if self._has(at)]

    def _has(self, at: Place) -> bool:
        """Return whether the cross has a place.

        The arms of a star, and the firmwares, leave the centre on one axis alone; its corners are the oldest and the
        newest kernel with the oldest and the newest QEMU.
        """
        kernel, qemu = at.kernel == self.kernels[0], at.qemu == self.qemus[0]
        firmware = at.firmware == self.firmwares[0]
        parts = {
            "kernels": qemu and firmware,
            "qemus": kernel and firmware,
            "corners": at.kernel in _ends(self.kernels) and at.qemu in _ends(self.qemus) and firmware,
            "firmwares": kernel and qemu,
        }
        return self.cross == "full" or parts.get(self.cross, any(parts.values()))


@dataclass(frozen=True, kw_only=True)
class Place:
    """One kernel and one QEMU, with one firmware."""

    kernel: AtlasColumn
    qemu: AtlasColumn
    firmware: FirmwareKind


def ascending(columns: Sequence[AtlasColumn]) -> list[AtlasColumn]:
    """Return columns by their versions."""
    return sorted(columns, key=lambda column: version_number(column.version))


def _ends(columns: Sequence[AtlasColumn]) -> list[AtlasColumn]:
    return [ascending(columns)[end] for end in (0, -1)]


def recorded_plan(path: Path) -> AtlasPlan:
    """Read what `AtlasPlan.record` wrote; raise InputError if it was not."""
    try:
        return AtlasPlan.model_validate(parse_json(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint="only an atlas can be resumed: name its rundir") from None
    except (OSError, ValueError, ValidationError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Atlas(Grid):
    """The cells, one case after another, each on one place after another."""

    plan: AtlasPlan

    @cached_property
    def cases(self) -> list[Case]:
        """Return the cases."""
        return [load_case(name) for name in self.plan.cases]

    @cached_property
    def _cells(self) -> list[tuple[Case, Place, Cell]]:
        places = self.plan.places
        return [(case, place, cell) for case in self.cases for place in places for cell in self._on(case, place)]

    def _on(self, case: Case, place: Place) -> list[Cell]:
        """Return the cells of a case with what a place has; rows that differ in these alone are one."""
        changes = {"qemu": place.qemu.name, "time": self.plan.time, "start": self.plan.start}
        cells = with_firmware(case.cells, place.firmware)
        cells = [each.model_copy(update=changes) for each in with_kernel(cells, place.kernel.name, tell=lambda _: None)]
        return list({cell.model_dump_json(): cell for cell in cells}.values())

    def __len__(self) -> int:
        return len(self._cells)

    @overload
    def __getitem__(self, index: int) -> Cell: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Cell]: ...
    def __getitem__(self, index: int | slice) -> Cell | Sequence[Cell]:
        if isinstance(index, slice):
            return [cell for _, _, cell in self._cells[index]]
        return self._cells[index][2]

    @property
    def title(self) -> str:
        """Return what it is called."""
        what = "sets of kernel, QEMU and firmware" if len(self.plan.firmwares) > 1 else "pairs of kernel and QEMU"
        return f"{len(self.cases)} cases on {len(self.plan.places)} {what}"

    @property
    def axis_labels(self) -> dict[str, list[str]]:
        """Return the values on each axis, in order."""
        columns = {"kernel": self.plan.kernels, "qemu": self.plan.qemus}
        names = {axis: [column.name for column in ascending(each)] for axis, each in columns.items()}
        return {"case": self.plan.cases, **names, "firmware": list(self.plan.firmwares)}

    def position(self, index: int) -> tuple[str, At]:
        """Return a cell's case and where it is judged."""
        case, place, _ = self._cells[index]
        return case.name, (place.kernel.name, place.qemu.name, place.firmware)

    def row(self, index: int) -> MatrixRow:
        """Return a cell's position on the axes."""
        case, place, _ = self._cells[index]
        axes = {"kernel": place.kernel.name, "qemu": place.qemu.name, "firmware": place.firmware}
        return MatrixRow(axes={"case": case.name, **axes})


def with_firmware(cells: Iterable[Cell], firmware: FirmwareKind) -> list[Cell]:
    """Return cells with a firmware; those whose machines have no choice of it, or not that one, are left out."""
    return [changed for cell in cells if (changed := _with_firmware(cell, firmware))]


def _with_firmware(cell: Cell, firmware: FirmwareKind) -> Cell | None:
    template = load_template(cell.machine)
    default = template.parameters["firmware"].default if "firmware" in template.parameters else FIRMWARES[0]
    if cell.parameters.get("firmware", default) == firmware:
        return cell
    others = {name: value for name, value in cell.parameters.items() if name != "firmware"}
    changed = others if firmware == default else {**others, "firmware": firmware}
    try:
        template.spec(changed)
    except InputError:
        return None  # without a choice of firmware, or with a start that this one cannot do
    return cell.model_copy(update={"parameters": changed})

"""Atlas: every cell of some cases on every place of a cross of kernels and QEMUs; one kind of grid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from testbed.campaign.case import load_case, with_kernel
from testbed.campaign.matrix.grid import Grid
from testbed.model.atlas import AtlasColumn, AtlasGap  # noqa: TC001 (pydantic reads them)
from testbed.model.errors import InputError
from testbed.model.json_reader import parse_json
from testbed.model.matrix import MatrixRow
from testbed.model.version_rule import version_number

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.campaign.case import Case
    from testbed.model.outcome import Cell

Cross = Literal["star", "full"]


class AtlasPlan(BaseModel):
    """What an atlas is made of; kept in its rundir, so that it can be resumed."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    cases: list[str] = Field(min_length=1)
    kernels: list[AtlasColumn] = Field(min_length=1)
    qemus: list[AtlasColumn] = Field(min_length=1)
    gaps: list[AtlasGap]
    cross: Cross
    start: Literal["auto", "fresh"] = "auto"
    time: Literal["auto", "real", "warped"] = "auto"

    @property
    def record(self) -> str:
        """Return it as JSON, to be read again with `recorded_plan`."""
        return json.dumps(self.model_dump(mode="json"), indent=1) + "\n"

    @property
    def places(self) -> list[Place]:
        """Return where the cases are judged, versions ascending.

        A star has every QEMU on the oldest kernel, every kernel on the oldest QEMU, and the newest on the newest.
        """
        kernels, qemus = ascending(self.kernels), ascending(self.qemus)
        every = [Place(kernel=kernel, qemu=qemu) for kernel in kernels for qemu in qemus]
        if self.cross == "full":
            return every
        newest = (kernels[-1], qemus[-1])
        return [at for at in every if kernels[0] == at.kernel or qemus[0] == at.qemu or newest == (at.kernel, at.qemu)]


@dataclass(frozen=True, kw_only=True)
class Place:
    """One kernel and one QEMU."""

    kernel: AtlasColumn
    qemu: AtlasColumn


def ascending(columns: Sequence[AtlasColumn]) -> list[AtlasColumn]:
    """Return columns by their versions."""
    return sorted(columns, key=lambda column: version_number(column.version))


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
        """Return the cells of a case with the kernel and the QEMU of a place; rows that differ in these are one."""
        changes = {"qemu": place.qemu.name, "time": self.plan.time, "start": self.plan.start}
        cells = with_kernel(case.cells, place.kernel.name, tell=lambda _: None)
        there = {cell.model_dump_json(): cell for cell in (each.model_copy(update=changes) for each in cells)}
        return list(there.values())

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
        return f"{len(self.cases)} cases on {len(self.plan.places)} pairs of kernel and QEMU"

    @property
    def axis_labels(self) -> dict[str, list[str]]:
        """Return the values on each axis, in order."""
        columns = {"kernel": self.plan.kernels, "qemu": self.plan.qemus}
        names = {axis: [column.name for column in ascending(each)] for axis, each in columns.items()}
        return {"case": self.plan.cases, **names}

    def row(self, index: int) -> MatrixRow:
        """Return a cell's position on the axes."""
        case, place, _ = self._cells[index]
        return MatrixRow(axes={"case": case.name, "kernel": place.kernel.name, "qemu": place.qemu.name})

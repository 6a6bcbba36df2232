"""Case: a documented bug as a YAML file of cells with the verdict each must give."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from testbed.host.apt_sources import suite_name
from testbed.image.recipe import with_guest_kernel_of, with_kernel_of
from testbed.machine.qemu_choice import choose_qemu
from testbed.machine.template import load_template
from testbed.model.catalog import CASES, add_path, is_path
from testbed.model.errors import BedError, InputError, LackingError
from testbed.model.outcome import Because, Cell, Role, Verdict
from testbed.model.setup import Setup
from testbed.model.version_rule import VersionRule  # noqa: TC001 (pydantic reads it)
from testbed.model.yaml_reader import read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


T = TypeVar("T")

#: stands for the running release's in the name of a fetched QEMU
_CODENAME = "{codename}"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class CaseRow(Setup):
    """One row of a case: the same setup, asked one or several questions."""

    scenario: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1, description="one, or several")]
    options: dict[str, Any] = Field(default_factory=dict, description="of every scenario of the row")
    since: VersionRule | None = Field(default=None, description="the kernel or QEMU from which on it holds")
    until: VersionRule | None = Field(default=None, description="the kernel or QEMU from which on it no longer does")
    expect: Annotated[
        list[Verdict],
        BeforeValidator(_as_list),
        Field(min_length=1, description="the verdict of all its scenarios, or one for each"),
    ]
    outcome: Annotated[
        list[str],
        BeforeValidator(_as_list),
        Field(min_length=1, description="the outcome of all its scenarios, or one for each"),
    ]
    because: dict[str, tuple[Because, ...]] | tuple[Because, ...] = Field(
        default=(), description="findings the verdicts rest on; by scenario where they differ"
    )
    role: Role = Field(default=Role.EXTRA, description="shows the bug, or the other answer, or is a neighbour")

    def cells(self, image: str) -> list[Cell]:
        """Return a cell for each question, with a QEMU that this host can have: an id and its hints name it."""
        qemu = suite_name(self.qemu) if _CODENAME in self.qemu else self.qemu
        return [cell.model_copy(update={"qemu": qemu}) for cell in self.written(image)]

    def written(self, image: str) -> list[Cell]:
        """Return a cell for each question, on `image` unless the row names one; one verdict applies to all of them."""
        verdicts, outcomes = self._each(self.expect), self._each(self.outcome)
        setup = self.model_copy(update={"image": self.image if "image" in self.model_fields_set else image})
        return [
            Cell.of(
                setup,
                scenario,
                options=self.options,
                since=self.since,
                until=self.until,
                expected=verdict,
                expected_outcome=outcome,
                because=self.because.get(scenario, ()) if isinstance(self.because, dict) else self.because,
                role=self.role,
            )
            for scenario, verdict, outcome in zip(self.scenario, verdicts, outcomes, strict=True)
        ]

    def _each(self, values: list[T]) -> list[T]:
        """Return a value for each scenario."""
        return values * len(self.scenario) if len(values) == 1 else values

    def mistake(self) -> tuple[str, str] | None:
        """Return the key that does not fit the scenarios, and what is wrong with it."""
        for key, values in (("expect", self.expect), ("outcome", self.outcome)):
            if len(values) not in (1, len(self.scenario)):
                noun = "verdicts" if key == "expect" else "outcomes"
                return key, f"{len(values)} {noun} for {len(self.scenario)} scenarios"
        others = [] if isinstance(self.because, tuple) else [each for each in self.because if each not in self.scenario]
        return ("because", f"{others[0]!r} is not a scenario of this row") if others else None


class CaseFile(BaseModel):
    """A documented bug."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    kind: Literal["case"] = Field(default="case", description="what the file is")
    title: str = Field(description="the bug in one line")
    description: str = Field(description="mechanism, and what each cell shows")
    references: list[str] = Field(default_factory=list, description="commits, threads, documents")
    image: str = Field(default="debian", description="image recipe of every row that names none")
    cells: list[CaseRow] = Field(min_length=1, description="what is run, each with what it must give")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A documented bug."""

    name: str
    title: str
    description: str
    references: tuple[str, ...]
    cells: tuple[Cell, ...]


def load_case(name: str) -> Case:
    """Read the case of this name or path; raise InputError if there is none or it is wrong.

    Files beside a case given by path are found by name: its scenarios, templates and recipes.
    """
    path = CASES.find(name)
    if is_path(name, CASES.suffix):
        add_path(path.parent.parent if path.parent.name == CASES.folder else path.parent)
    return read_case(path, path.name.removesuffix(CASES.suffix))


def read_case(path: Path, name: str) -> Case:
    """Read a case file; raise InputError naming file and line if it is wrong."""
    documents = read_yaml(path)
    if len(documents) != 1:
        raise InputError(f"{path}: holds {len(documents)} YAML documents, a case is one")
    document = documents[0]
    file = document.validate(CaseFile)
    cells: list[Cell] = []
    for index, row in enumerate(file.cells):
        if mistake := row.mistake():
            key, words = mistake
            raise InputError(f"{document.where(('cells', index, key))}: {words}")
        cells += row.cells(file.image)
    return Case(
        name=name,
        title=file.title,
        description=file.description,
        references=tuple(file.references),
        cells=tuple(cells),
    )


def with_kernel(cells: Sequence[Cell], image: str, *, level2: str = "", tell: Callable[[str], None]) -> list[Cell]:
    """Return cells whose images have the kernel of another, and all else as their recipes say; tell what is replaced.

    Machines in a guest (L2) keep theirs, unless `level2` is an image whose kernel they get. What is empty replaces
    nothing. Raises InputError if there is no such image.
    """
    replaced = Counter(cell.image for cell in cells)
    images = {name: with_kernel_of(name, image) if image else name for name in replaced}
    if level2:
        images = {name: with_guest_kernel_of(new, level2) for name, new in images.items()}
    for name, count in replaced.items():
        if images[name] != name:
            tell(f"--image: {images[name]} in place of {name} in {count} cell{'s' * (count != 1)}")
    return [cell.model_copy(update={"image": images[cell.image]}) for cell in cells]


def obstacles(name: str, qemu: str = "") -> list[BedError]:
    """Return why cells of a case cannot run, each reason once; `asked` is the QEMU of cells that name none.

    A LackingError is something that another QEMU may have.
    """
    wrong: dict[str, BedError] = {}
    for cell in load_case(name).cells:
        try:
            choose_qemu(cell.qemu or qemu, load_template(cell.machine).spec(cell.parameters))
        except BedError as error:
            wrong.setdefault(error.message, error)
    return list(wrong.values())


def lack_a_qemu(names: list[str]) -> list[str]:
    """Return the cases with cells for which this host has no QEMU."""
    return [name for name in names if any(isinstance(error, LackingError) for error in obstacles(name))]

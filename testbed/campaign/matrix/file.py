"""The file of a matrix, and the same said by options: `kind: matrix`, axes, rules for some cells."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from testbed.campaign.matrix.axes import ALIASES, DEFAULTS
from testbed.model.catalog import unknown
from testbed.model.errors import InputError
from testbed.model.json_reader import parse_json
from testbed.model.outcome import Verdict  # noqa: TC001 (pydantic reads it)
from testbed.model.yaml_reader import Document, NodePath, read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: keys of the file that name cells by their axes
RULES = ("include", "exclude", "expect", "unstable")


#: what they say of those cells
_BESIDE_AXES: dict[str, tuple[str, ...]] = {
    "include": ("verdict", "outcome"),
    "expect": ("verdict", "outcome"),
    "unstable": ("reason",),
}


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Texts = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
Choices = Annotated[list[str | dict[str, Any]], BeforeValidator(_as_list), Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Row(_Model):
    """Values on some axes: the cells that have them."""

    scenario: Texts | None = Field(default=None, description="questions, with their options in brackets")
    machine: Texts | None = Field(default=None, description="templates with parameters, or patterns of machine types")
    parameters: Choices | None = Field(default=None, description="further parameters of each machine")
    cmdline: Texts | None = Field(default=None, description="kernel command lines, verbatim")
    image: Texts | None = Field(default=None, description="image recipes, or kernels")
    qemu: Texts | None = Field(default=None, description="QEMUs: paths, names or `any`")
    cpu: Texts | None = Field(default=None, description="CPU models with their features: `max,smap=off`")
    accel: Texts | None = Field(default=None, description="accelerators")
    first: Texts | None = Field(default=None, description="guest commands that prepare the starting state")
    whole: Texts | None = Field(
        default=None, description="`running` or seconds: the disks' own user space, and from when on"
    )
    via: Texts | None = Field(default=None, description="`agent` or `console`: who answers in the guest")
    login: Texts | None = Field(default=None, description="files with the user and the password for the console")

    def given(self) -> dict[str, list[Any]]:
        """Return the values on the axes that are given."""
        pairs = ((axis, getattr(self, axis)) for axis in DEFAULTS)
        return {axis: values for axis, values in pairs if values is not None}


class Expect(Row):
    """Cells whose verdict is known, and maybe which one of its kind it is."""

    verdict: Verdict = Field(description="the verdict they must have")
    outcome: str = Field(default="", description="and the outcome; empty: any with that verdict")


class Unstable(Row):
    """Cells whose verdict does not decide anything, and why."""

    reason: str = Field(min_length=1, description="why their verdicts do not count")


class Include(Row):
    """Further cells, and the verdict they must have."""

    verdict: Verdict | None = Field(default=None, description="the verdict they must have")
    outcome: str = Field(default="", description="and the outcome; empty: any with that verdict")


class MatrixFile(_Model):
    """What a matrix file says."""

    kind: Literal["matrix"] = Field(default="matrix", description="what the file is")
    title: str = Field(default="", description="what is asked, in one line")
    axes: Row = Field(description="the values whose every combination is a cell")
    include: list[Include] = Field(default_factory=list, description="further cells")
    exclude: list[Row] = Field(default_factory=list, description="cells that are left out")
    expect: list[Expect] = Field(default_factory=list, description="cells whose verdict is known; the last rule wins")
    unstable: list[Unstable] = Field(default_factory=list, description="cells whose verdict does not count")
    repeat: int = Field(default=1, ge=1, le=1000, description="how often each cell is run")
    limit: float = Field(default=600.0, gt=0, description="wall seconds a cell may take")
    fresh: bool = Field(default=False, description="boot every guest, use no saved state")
    time: Literal["auto", "real", "warped"] = Field(default="auto", description="how idle guest time passes under TCG")


@dataclass(frozen=True, kw_only=True)
class _Merged(Document):
    """A file with what options say in place of some of it."""

    def where(self, path: NodePath = ()) -> str:
        """Return `file:line` of a node, or only the source where nothing has lines."""
        return super().where(path) if self.lines else self.source


@dataclass(frozen=True, kw_only=True)
class MatrixSource:
    """A matrix as it was written, checked but not expanded."""

    document: Document
    file: MatrixFile

    @property
    def record(self) -> str:
        """Return it as JSON, to be read again with `recorded_source`."""
        return json.dumps(self.document.value, indent=1) + "\n"

    def error(self, path: NodePath, message: str, hint: str | None) -> InputError:
        """Return an error that names the place of a node."""
        return InputError(f"{self.document.where(path)}: {'.'.join(map(str, path))}: {message}", hint=hint)


def read_source(path: Path | None, options: Mapping[str, Any]) -> MatrixSource:
    """Read a matrix file, with what options override; without a file the options give everything.

    Axes given by options replace the file's, rules are added to its rules. Raises InputError naming file and line.
    """
    document = _document(path) if path else Document(source="matrix", value={"axes": {}}, lines={})
    value = dict(document.value)
    axes = {key: each for key, each in options.items() if key in DEFAULTS}
    named = _named(document, value.get("axes", {}), ("axes",))
    # what is no mapping is refused with its line below
    value["axes"] = {**named, **axes} if isinstance(named, dict) else named
    for rule in RULES:
        rows = value.get(rule, [])
        ruled = [_named(document, row, (rule, n)) for n, row in enumerate(rows)] if isinstance(rows, list) else rows
        value[rule] = [*ruled, *options.get(rule, [])] if isinstance(ruled, list) else ruled
    value |= {key: each for key, each in options.items() if key not in DEFAULTS and key not in RULES}
    return _checked(_Merged(source=document.source, value=value, lines=document.lines))


def recorded_source(path: Path) -> MatrixSource:
    """Read what `MatrixSource.record` wrote; raise InputError if it was not."""
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", hint="only a matrix can be resumed: name its rundir") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    return _checked(Document(source=str(path), value=value, lines={}))


def option_row(text: str) -> dict[str, Any]:
    """Return the row that an option's `AXIS=VALUE; AXIS=VALUE` means; raise InputError if it is not one."""
    row: dict[str, Any] = {}
    for part in text.split(";"):
        key, separator, value = part.strip().partition("=")
        if not separator:
            raise InputError(
                f"{text!r}: {part.strip()!r} is not AXIS=VALUE", hint="for example: 'machine=i440fx; cmdline=quiet'"
            )
        row.setdefault(_axis(key.strip()), []).append(value.strip())
    for key in ("verdict", "outcome", "reason"):
        if key in row:
            row[key] = row[key][-1]
    return row


def _axis(name: str) -> str:
    return ALIASES.get(name, name)


def _document(path: Path) -> Document:
    documents = read_yaml(path)
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise InputError(f"{path}: is not a matrix", hint="it begins: axes: {scenario: [disk-unplug], machine: [q35]}")
    return documents[0]


def _named(document: Document, row: Any, path: NodePath) -> Any:
    """Return a row with its axes under their own names; raise InputError for an unknown one."""
    if not isinstance(row, dict):
        return row
    extra = _BESIDE_AXES.get(str(path[0]), ())
    named = {}
    for key, value in row.items():
        if _axis(str(key)) not in (*DEFAULTS, *extra):
            error = unknown("axis", str(key), (*DEFAULTS, *ALIASES, *extra))
            raise InputError(f"{document.where((*path, str(key)))}: {error.message}", hint=error.hint)
        named[_axis(str(key))] = value
    return named


def _checked(document: Document) -> MatrixSource:
    return MatrixSource(document=document, file=document.validate(MatrixFile))

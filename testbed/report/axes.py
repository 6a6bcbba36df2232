"""FieldAxes: the fields in which the cells of a report differ, and their values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from testbed.model.outcome import Outcome

#: what a cell came to, or says of itself; every other field, also one added later, is what was tried
_RESULTS = frozenset(
    {
        "id",
        "kernel_cmdline",
        "accel_reason",
        "note",
        "verdict",
        "outcome",
        "expected",
        "expected_outcome",
        "because",
        "role",
        "reason",
        "hint",
        "findings",
        "guest_seconds",
        "wall_seconds",
        "rundir",
    }
)
#: fields that people ask for by name come first, what the bed chose for itself last
_FIRST = ("scenario", "machine", "cmdline", "parameters", "options", "image", "qemu", "accel")
_LAST = ("machine_type", "kernel", "cpu", "boot", "time", "start", "case", "run")
_EMPTY = "(none)"


@dataclass(frozen=True, kw_only=True)
class FieldAxis:
    """One field in which cells differ."""

    name: str
    values: tuple[str, ...]  #: in the order in which they first appear
    places: tuple[int, ...]  #: of each cell, the place of its value


@dataclass(frozen=True, kw_only=True)
class FieldAxes:
    """All fields: those in which cells differ, and those that are the same for all."""

    differing: tuple[FieldAxis, ...]
    common: tuple[tuple[str, str], ...]


def find_axes(outcomes: Sequence[Outcome]) -> FieldAxes:
    """Return the axes of some cells; of several that part the cells alike, the one people ask for by name."""
    rows = [_fields(outcome) for outcome in outcomes]
    differing: list[FieldAxis] = []
    common = []
    seen: set[tuple[int, ...]] = set()
    for name in _names(rows):
        axis = _axis(name, [row.get(name, "") or _EMPTY for row in rows])
        if len(axis.values) == 1:
            common.append((name, axis.values[0]))
        elif axis.places not in seen:
            differing.append(axis)
        seen.add(axis.places)
    return FieldAxes(differing=tuple(differing), common=tuple(common))


def suite_of(outcome: Outcome) -> str:
    """Return the case or scenario under which a run filed the cell."""
    return Path(outcome.rundir).parent.name


def _axis(name: str, values: Sequence[str]) -> FieldAxis:
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return FieldAxis(name=name, values=tuple(places), places=tuple(places[value] for value in values))


def _names(rows: Sequence[Mapping[str, str]]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    return sorted(names, key=_rank)


def _rank(name: str) -> int:
    field = name.partition(".")[0]
    if field in _FIRST:
        return _FIRST.index(field)
    return len(_FIRST) + (1 + _LAST.index(field) if field in _LAST else 0)


def _fields(outcome: Outcome) -> dict[str, str]:
    """Return what was tried, each key of a dict by itself."""
    fields: dict[str, str] = {}
    for name, value in outcome.model_dump(mode="json", exclude=set(_RESULTS)).items():
        if isinstance(value, dict):
            fields |= {f"{name}.{key}": plain_value(item) for key, item in value.items()}
        else:
            fields[name] = plain_value(value)
    return fields | {"case": suite_of(outcome), "run": Path(outcome.rundir).parent.parent.name}


def plain_value(value: Any) -> str:
    """Return a value as people write it."""
    if isinstance(value, dict):
        return " ".join(f"{key}={plain_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(plain_value, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)

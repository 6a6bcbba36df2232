"""Axes: what a matrix varies, the values on each, and what picks cells by them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from testbed.model.catalog import unknown
from testbed.model.setup import Setup, other_fields
from testbed.model.value_text import settings_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: axes that are fields of a setup
SETUP_AXES = ("cmdline", *other_fields())
#: every axis with the value that stands where none is given, in the order in which cells are counted
DEFAULTS: dict[str, Any] = {
    "scenario": "",
    "machine": "q35",
    "parameters": "",
    "cpu": "",
    **{name: Setup.model_fields[name].default for name in SETUP_AXES},
}
#: what an axis is called besides
ALIASES = {"kernel": "image"}

#: the number of a value on each axis
Place = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Value:
    """One value of an axis."""

    label: str  #: how it is named in rules and reports
    given: Any  #: text, or a mapping of parameters


@dataclass(frozen=True, kw_only=True)
class Picker:
    """Picks the cells that have one of some values on each of some axes."""

    values: Mapping[int, frozenset[int]]  #: axis -> numbers of values

    def picks(self, place: Place) -> bool:
        """Return whether a cell is among them."""
        return all(place[axis] in numbers for axis, numbers in self.values.items())

    def places(self) -> Iterator[Place]:
        """Yield every cell it picks; it must name every axis."""
        return itertools.product(*(sorted(self.values[axis]) for axis in range(len(DEFAULTS))))


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The values on every axis, in the order of DEFAULTS."""

    values: tuple[tuple[Value, ...], ...]
    #: how many of them are combined with those of all other axes: the further ones only stand in rows that name them
    combined: tuple[int, ...]

    @property
    def combinations(self) -> int:
        """Return how many cells the product has."""
        return math.prod(self.combined)

    def product(self) -> Iterator[Place]:
        """Yield every combination; the last axis varies fastest."""
        return itertools.product(*(range(count) for count in self.combined))

    def labels(self, place: Place) -> dict[str, str]:
        """Return the names of a cell's values by axis."""
        pairs = zip(DEFAULTS, self.values, place, strict=True)
        return {axis: values[number].label for axis, values, number in pairs}

    def given(self, place: Place) -> dict[str, Any]:
        """Return a cell's values by axis."""
        return {axis: values[number].given for axis, values, number in zip(DEFAULTS, self.values, place, strict=True)}

    def picker(self, wanted: Mapping[str, Sequence[str]]) -> Picker:
        """Return what picks cells with these labels, in which `*` stands for anything.

        Raises InputError for a label that no value of its axis has.
        """
        axes = list(DEFAULTS)
        return Picker(values={axes.index(axis): self._numbers(axis, labels) for axis, labels in wanted.items()})

    def _numbers(self, axis: str, labels: Sequence[str]) -> frozenset[int]:
        there = [value.label for value in self.values[list(DEFAULTS).index(axis)]]
        found: set[int] = set()
        for label in labels:
            # brackets belong to the labels of machines
            pattern = label.replace("[", "[[]")
            numbers = {number for number, each in enumerate(there) if each == label or fnmatchcase(each, pattern)}
            if not numbers:
                raise unknown(f"{axis}:", label, (each or "''" for each in there))
            found |= numbers
        return frozenset(found)


def label_of(given: Any) -> str:
    """Return how a value is named: text as it is, parameters as `cpus=2,memory=1024`."""
    return settings_text(given) if isinstance(given, dict) else str(given)

"""The columns of a comparison: every combination of what was given more than once, and what to call each."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from testbed.model.comparison import Column
from testbed.model.errors import InputError
from testbed.model.outcome import Cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_VERSIONED = re.compile(r"pc-(q35|i440fx)-([0-9]{1,3}(?:\.[0-9]{1,3}){1,3})")


@dataclass(frozen=True, kw_only=True)
class ComparedMachine:
    """A machine as it was asked for."""

    label: str
    template: str
    parameters: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What may be given more than once; each has at least one value."""

    machines: Sequence[ComparedMachine]
    cmdlines: Sequence[str]
    images: Sequence[str]
    qemus: Sequence[str]


def is_machine_type(name: str) -> bool:
    """Return whether a name is a versioned machine type, or a pattern of some."""
    return "*" in name or "?" in name or _VERSIONED.fullmatch(name) is not None


def matching_types(pattern: str, offered: Iterable[str]) -> list[tuple[str, str]]:
    """Return the versioned machine types that match, by version, each with the template it runs on.

    Raises InputError with those there are if none does.
    """
    known = sorted((each for each in set(offered) if _VERSIONED.fullmatch(each)), key=_by_version)
    matching = [each for each in known if fnmatchcase(each, pattern)]
    if not matching:
        there = ", ".join(known) or "none"
        raise InputError(f"--machine {pattern!r}: no versioned machine type matches", hint=f"there are: {there}")
    return [(each, each.split("-")[1]) for each in matching]


def _by_version(name: str) -> tuple[str, list[int]]:
    family, version = name.rsplit("-", 1)
    return family, [int(part) for part in version.split(".")]


def make_columns(axes: Axes) -> list[Column]:
    """Return a column for each combination, labelled with what differs; raise InputError if there is only one."""
    values = (axes.machines, axes.cmdlines, axes.images, axes.qemus)
    varying = [len(each) > 1 for each in values]
    labels, columns = [], []
    for machine, cmdline, image, qemu in itertools.product(*values):
        words = (machine.label, cmdline or "(no command line)", image, qemu or "default QEMU")
        told = [word for word, varies in zip(words, varying, strict=True) if varies]
        labels.append(", ".join(told) or machine.label)
        columns.append((machine, cmdline, image, qemu))
    if len(columns) < 2:
        raise InputError(
            f"compare: there is nothing to compare {labels[0]} with",
            hint="give --machine, --cmdline, --image or --qemu twice, or a pattern: --machine 'pc-q35-*'",
        )
    return [
        Column(
            label=label,
            machine=machine.template,
            parameters=machine.parameters,
            cmdline=cmdline,
            image=image,
            qemu=qemu,
        )
        for label, (machine, cmdline, image, qemu) in zip(_unique(labels), columns, strict=True)
    ]


def _unique(labels: Sequence[str]) -> list[str]:
    """Return the labels, those that were there before with their number: one machine may be compared with itself."""
    seen: Counter[str] = Counter()
    unique = []
    for label in labels:
        seen[label] += 1
        unique.append(f"{label} ({seen[label]})" if seen[label] > 1 else label)
    return unique


def column_cell(column: Column, scenario: str, **pace: Any) -> Cell:
    """Return the cell of a scenario in a column."""
    return Cell(
        scenario=scenario,
        machine=column.machine,
        parameters=column.parameters,
        cmdline=column.cmdline,
        image=column.image,
        qemu=column.qemu,
        **pace,
    )

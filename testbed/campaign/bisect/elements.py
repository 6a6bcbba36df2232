"""Elements: what a bisect searches among, and the cell that any of them together make."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.setup import Setup, other_fields
from testbed.model.value_text import value_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.campaign.bisect.result import Subset
    from testbed.model.bisect import Over
    from testbed.model.outcome import Cell

#: how many elements are named where others are only counted
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """Something given that is no element, since no guest of the test bed can have it."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Elements:
    """What is searched among: numbered names, and the cell of every subset."""

    over: Over
    noun: str  #: what one of them is
    names: tuple[str, ...]
    cell: Callable[[Subset], Cell]
    aside: tuple[SetAside, ...] = ()
    notes: tuple[str, ...] = ()  #: what a person should know of how they were found

    def __len__(self) -> int:
        return len(self.names)

    @property
    def everything(self) -> Subset:
        """Return all of them."""
        return frozenset(range(len(self.names)))

    def named(self, subset: Subset) -> tuple[str, ...]:
        """Return the names of some, in order."""
        return tuple(self.names[number] for number in sorted(subset))

    def counted(self, count: int) -> str:
        """Return `1 option`, `2 options`."""
        return f"1 {self.noun}" if count == 1 else f"{count} {_plural(self.noun)}"

    def describe(self, subset: Subset) -> str:
        """Say in few words which of them a subset has."""
        rest = self.everything - subset
        if not subset:
            return "none of them"
        if not rest:
            return f"all {self.counted(len(subset))}" if len(subset) > 1 else self.names[0]
        if len(subset) <= _NAMED:
            return f"only {' '.join(self.named(subset))}"
        if len(rest) <= _NAMED:
            return f"all but {' '.join(self.named(rest))}"
        names = self.named(subset)
        return f"{len(subset)} of {self.counted(len(self.names))}: {names[0]} … {names[-1]}"

    def pasted(self, subset: Subset) -> str:
        """Return what is to be pasted for a subset: the command line, or the options of `testbed run`."""
        cell = self.cell(subset)
        return cell.cmdline if self.over == "cmdline" else run_options(cell)


def run_command(cell: Cell) -> str:
    """Return the command that runs a cell."""
    options = "".join(f" -s {shlex.quote(f'{name}={value_text(value)}')}" for name, value in cell.options.items())
    return f"testbed run {shlex.quote(cell.scenario)} {run_options(cell)}{options}"


def run_options(cell: Cell) -> str:
    """Return a cell's setup as options of `testbed run`."""
    parameters = (f" -p {shlex.quote(f'{name}={value_text(value)}')}" for name, value in cell.parameters.items())
    others = (
        f" {_option(name, value)}"
        for name in ("cmdline", *other_fields())
        if (value := getattr(cell, name)) != Setup.model_fields[name].default
    )
    return f"--machine {shlex.quote(cell.machine)}{''.join(parameters)}{''.join(others)}"


def _option(name: str, value: str) -> str:
    """Return a field of a setup as an option."""
    if name == "whole":
        return "--whole" if value == "running" else f"--whole-wait {value}"
    return f"--{name} {shlex.quote(value)}"


def _plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("ty") else f"{noun}s"

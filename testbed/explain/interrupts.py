"""/proc/interrupts: which handlers the kernel has on which line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.explain.source import Part

_ROW = re.compile(r"\s*([0-9A-Za-z]{1,8}):\s+([0-9].*)")
_HEAD = re.compile(r"\s*CPU[0-9]")


@dataclass(frozen=True, kw_only=True)
class Interrupt:
    """One row."""

    name: str  #: number, or `NMI` and its like
    handlers: str  #: chip, trigger and the names of what handles it
    reference: str

    def serves(self, handler: str) -> bool:
        """Return whether a handler is on this line."""
        return handler in self.handlers


@dataclass(frozen=True, kw_only=True)
class Interrupts:
    """The table, or rows cut out of it."""

    rows: tuple[Interrupt, ...]
    whole: bool = True  #: the table's head is there, so that what is not in it does not exist
    span: str = ""  #: what cites the whole table

    def serving(self, handler: str) -> tuple[Interrupt, ...]:
        """Return the rows a handler is on."""
        return tuple(row for row in self.rows if row.serves(handler))


def read_interrupts(part: Part) -> Interrupts:
    """Read /proc/interrupts, or some of its rows."""
    whole = any(_HEAD.match(line.text) for line in part.lines)
    span = f"{part.lines[0].reference}-{part.lines[-1].number}"
    return parse_interrupts(((line.text, line.reference) for line in part.lines), whole=whole, span=span)


def parse_interrupts(lines: Iterable[tuple[str, str]], *, whole: bool, span: str) -> Interrupts:
    """Read rows, each with what cites it; lines that are none are passed over."""
    matches = ((_ROW.match(text), reference) for text, reference in lines)
    rows = (
        Interrupt(name=match[1], handlers=_without_counts(match[2]), reference=reference)
        for match, reference in matches
        if match
    )
    return Interrupts(rows=tuple(rows), whole=whole, span=span)


def _without_counts(text: str) -> str:
    words = text.split()
    start = next((place for place, word in enumerate(words) if not word.isdigit()), len(words))
    return " ".join(words[start:])

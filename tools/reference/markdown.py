"""Text and tables in Markdown."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield a table; what stands in a cell is one line."""
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(line(each).replace("|", "\\|") for each in row) + " |"
    yield ""


def line(text: str) -> str:
    """Return text on one line."""
    return " ".join(text.split())


def plain(text: str | None) -> str:
    """Return a help text without the marks that its terminal wants."""
    return inspect.cleandoc(text or "").replace("\\[", "[")


def doc(thing: Any) -> str:
    """Return the first paragraph of what a class says of itself."""
    return first_paragraph(inspect.getdoc(thing) or "")


def first_paragraph(text: str) -> str:
    """Return the first paragraph, on one line."""
    return line(text.partition("\n\n")[0])


def words(name: str) -> str:
    """Return a class's name as words: `CaseRow` is `case row`."""
    return "".join(f" {char.lower()}" if char.isupper() else char for char in name.lstrip("_")).strip()

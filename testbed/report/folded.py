"""Folded: text in a narrow column, broken where its reader would break it."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.measure import Measurement
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console, ConsoleOptions, RenderResult

#: after a blank, or inside brackets after a comma: `q35[hotplug=native,` + `ports=8]`
_BREAKS = re.compile(r"(?<=[ \n,\[{|;])")
#: in a name that is longer than a whole line: after what joins its words
_JOINTS = re.compile(r"(?<=[-/:=._])")
#: a column need not be wider than this, whatever name stands in it
_WIDEST_NAME = 24


class Folded:
    """One text of a table; the first line begins at the margin, the others are indented by `indent` columns."""

    def __init__(self, text: str, *, style: str = "", indent: int = 0) -> None:
        self._text = text
        self._style = style
        self._indent = indent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in fold(self._text, options.max_width, self._indent):
            yield Text(line, style=self._style, no_wrap=True, overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = max(map(cell_len, map(str.rstrip, _BREAKS.split(self._text))))
        whole = max(map(cell_len, self._text.split("\n")))
        return Measurement(min(longest + self._indent, _WIDEST_NAME), whole).clamp(None, options.max_width)


def fold(text: str, width: int, indent: int = 0) -> Iterator[str]:
    """Yield lines of at most `width` columns, all but the first indented.

    A name is broken only where it alone is longer than a line, and then where its words are joined if it can be.
    """
    line = start = ""
    for number, paragraph in enumerate(text.split("\n")):
        if number:
            yield line.rstrip()
            line = start = " " * indent
        for piece in _pieces(paragraph, max(width - indent, 1)):
            if line == start or cell_len((line + piece).rstrip()) <= width:
                line += piece
                continue
            if line.strip():
                yield line.rstrip()
                start = " " * indent
            # a blank at which a line was broken does not begin the next
            line = start + piece.lstrip(" ")
    yield line.rstrip()


def _pieces(text: str, width: int) -> Iterable[str]:
    """Return what may go on its own line."""
    return chain.from_iterable(
        _JOINTS.split(piece) if cell_len(piece.rstrip()) > width else (piece,) for piece in _BREAKS.split(text)
    )

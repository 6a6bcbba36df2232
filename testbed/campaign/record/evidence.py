"""Evidence: the lines that a finding cites, as they stand in its cell's rundir."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: `kernel.log:411`, `kernel.log:411-413`, or a file alone; no folder, so nothing outside the rundir is read
_REFERENCE = re.compile(r"([a-z][a-z_-]{0,40}\.(?:log|jsonl|yaml|json))(?::([0-9]{1,9})(?:-([0-9]{1,9}))?)?")
#: lines quoted of a range, or of a file cited as a whole
_LINES = 12
#: characters quoted of a line
_SHOWN = 4000


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What a reference says."""

    reference: str
    text: str


def quote_evidence(rundir: Path, evidence: str) -> list[Quote]:
    """Return the quotes behind an evidence's references; a file cited as a whole is quoted by its end."""
    quotes = []
    for match in _REFERENCE.finditer(evidence):
        file, first, last = match.groups()
        lines = _lines(rundir / file)
        start = int(first) - 1 if first else max(0, len(lines) - _LINES)
        end = min(int(last), start + _LINES) if last else start + (1 if first else _LINES)
        if text := "\n".join(_cut(line) for line in lines[start:end]):
            quotes.append(Quote(reference=match[0], text=text))
    return quotes


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file of a rundir as references count them; none if it cannot be read.

    Only \\n ends one. A guest prints \\r, form feeds and U+2028 too, and each would put all later numbers off.
    """
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []


#: the findings of one cell cite the same few files
_lines = lru_cache(maxsize=8)(read_lines)


def _cut(line: str) -> str:
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}… ({len(line)} characters)"

"""A page of docs/ read as a table: each cell with the verdict and the outcome that the page says it has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "behaviours.md"
_ROW = re.compile(r"^\|.*\| `([^`]+)` \| (good|bad): ([a-z-]+) \|$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell of the page."""

    cell: str
    verdict: str
    outcome: str

    @property
    def scenario(self) -> str:
        """Return the name of its question."""
        return re.split(r"[\[ ]", self.cell, maxsplit=1)[0]


def rows_of(page: Path) -> list[Row]:
    """Return the cells of a page."""
    found = _ROW.findall(page.read_text(encoding="utf-8"))
    return [Row(cell=cell, verdict=verdict, outcome=outcome) for cell, verdict, outcome in found]


ROWS = rows_of(PAGE)


def behaviours() -> dict[str, list[Row]]:
    """Return the rows of each scenario."""
    sorted_rows: dict[str, list[Row]] = {}
    for row in ROWS:
        sorted_rows.setdefault(row.scenario, []).append(row)
    return sorted_rows

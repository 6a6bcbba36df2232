"""The behaviours of docs/behaviours.md: each cell, and its control, really has the verdict that the page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.campaign.setups import read_cell
from tests.behaviours import ROWS

if TYPE_CHECKING:
    from testbed.pytest_plugin import Judge
    from tests.behaviours import Row

#: run by make test too: all of one saved guest, a good and a bad one of each kind of expectation
SHORT = {"disk-grows", "same-id-twice", "write-threshold", "io-error-stops"}

#: it waits for what does not come
LONG = "io-error-stops[werror=report] q35"


def _quick(row: Row) -> bool:
    return row.scenario in SHORT and row.cell.endswith(" q35") and row.cell != LONG


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=() if _quick(row) else (pytest.mark.extended,), id=row.cell) for row in ROWS],
)
async def test_a_cell_has_the_verdict_that_the_page_says(row: Row, testbed_try: Judge) -> None:
    cell = read_cell(row.cell)
    setup = {name: value for name, value in cell.setup.fields().items() if name != "machine"}
    outcome = await testbed_try(cell.scenario, cell.machine, **setup, options=cell.options)
    assert (outcome.verdict, outcome.outcome) == (row.verdict, row.outcome), outcome.reason

"""The page of replayed behaviours: what it says can be run, and controls have another verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.campaign.setups import read_cell
from testbed.model.catalog import STEPS
from tests.behaviours import ROWS, behaviours

if TYPE_CHECKING:
    from tests.behaviours import Row

MOST_LINES = 15


def test_the_page_has_twenty_five_behaviours_each_with_a_good_and_a_bad_cell() -> None:
    verdicts = {name: {row.verdict for row in rows} for name, rows in behaviours().items()}
    assert len(verdicts) >= 25
    assert {name for name, seen in verdicts.items() if seen != {"good", "bad"}} == set()


def test_every_shipped_file_of_steps_is_on_the_page_and_no_longer_than_it_must_be() -> None:
    paths = STEPS.paths()
    assert set(behaviours()) == set(paths)
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in paths.items()}
    assert {name for name, count in lines.items() if count > MOST_LINES} == set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.cell)
def test_every_row_is_a_cell(row: Row) -> None:
    assert read_cell(row.cell).id == row.cell

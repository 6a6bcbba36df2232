"""The line of a finished cell: what is not as documented is marked, and a cell that cannot run here is not."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from testbed.model.outcome import Cell, Verdict
from testbed.report.terminal import LiveProgress

from .compared import outcome


@pytest.mark.parametrize(
    ("verdict", "marked"), [(Verdict.BAD, False), (Verdict.GOOD, True), (Verdict.BROKEN, True), (Verdict.SKIP, False)]
)
def test_only_what_contradicts_the_case_is_marked(verdict: Verdict, marked: bool) -> None:
    cell = Cell(scenario="disk-unplug", machine="q35", expected=Verdict.BAD)
    text = io.StringIO()
    progress = LiveProgress([cell], Console(file=text, width=120))
    progress.done(0, outcome(verdict=verdict).model_copy(update={"expected": Verdict.BAD}))
    assert ("(expected bad" in text.getvalue()) is marked

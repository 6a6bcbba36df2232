"""What the soak says of verdicts."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from tests.faults.soak import _tell

if TYPE_CHECKING:
    import pytest


def test_a_torn_cell_and_a_wrong_one_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = defaultdict(Counter, {"a: x": Counter(good=3), "a: y": Counter(bad=2, broken=1)})
    assert _tell(verdicts, []) == 1
    assert "! a: y: 2 bad, 1 broken" in capsys.readouterr().out
    del verdicts["a: y"]
    assert _tell(verdicts, []) == 0
    assert _tell(verdicts, ["a: x: broken"]) == 1
    assert "3 cell runs of 1 cells, each at least 3 times: 0 cells torn, 1 wrong" in capsys.readouterr().out

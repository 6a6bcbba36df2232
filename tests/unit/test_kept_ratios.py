"""Ratios of benchmarks against those of a former run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import pytest

from tests.benchmarks.kept import read_kept, regressions
from tests.benchmarks.measures import Ratio

if TYPE_CHECKING:
    from pathlib import Path


def _ratio(slow: float, quick: float, *, name: str = "boot", ours: Literal["slow", "quick"] = "quick") -> Ratio:
    seconds = {"slow_seconds": [slow, slow], "quick_seconds": [quick, quick]}
    return Ratio(name=name, slow="plain", quick="default", ours=ours, **seconds)


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, float]:
    """Return what a run that was 4 times as quick left."""
    path = tmp_path / "kept.json"
    path.write_text(json.dumps([_ratio(8, 2).to_json()]))
    return read_kept(path)


@pytest.mark.parametrize("quick", [1.0, 2.0, 2.39])
def test_as_quick_or_nearly_is_no_regression(quick: float, kept: dict[str, float]) -> None:
    assert not list(regressions([_ratio(8, quick)], kept))


def test_a_fifth_slower_is_named_with_both_ratios(kept: dict[str, float]) -> None:
    assert list(regressions([_ratio(8, 2.5)], kept)) == ["boot: plain / default: 3.20 times, was 4.00"]


@pytest.mark.parametrize(("slow", "count"), [(1.0, 0), (8.0, 0), (9.9, 1)])
def test_where_the_slow_way_is_the_beds_more_is_worse(slow: float, count: int, kept: dict[str, float]) -> None:
    assert len(list(regressions([_ratio(slow, 2, ours="slow")], kept))) == count


def test_what_was_not_kept_is_new(kept: dict[str, float]) -> None:
    assert not list(regressions([_ratio(1, 9, name="another")], kept))

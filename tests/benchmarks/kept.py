"""Ratios of a former run, and which of a new run's are worse: `make bench-check`.

Ratios, unlike seconds, can be compared between hosts, as long as both ways are bound by the same thing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tests.benchmarks.measures import Ratio

#: how much worse a ratio may be than the one that was kept
TOLERANCE = 1.2


def read_kept(path: Path) -> dict[str, float]:
    """Return the ratios that a run's --json has, by what they compare."""
    return {_key(each["name"], each["slow"], each["quick"]): each["ratio"] for each in json.loads(path.read_text())}


def regressions(ratios: Iterable[Ratio], kept: Mapping[str, float]) -> Iterator[str]:
    """Yield a line for each ratio that is worse than the kept one by more than a fifth; others are new."""
    for new in ratios:
        key = _key(new.name, new.slow, new.quick)
        before = kept.get(key)
        if before is None:
            continue
        worse = before / new.ratio if new.ours == "quick" else new.ratio / before
        if worse > TOLERANCE:
            yield f"{key}: {new.ratio:.2f} times, was {before:.2f}"


def _key(name: str, slow: str, quick: str) -> str:
    return f"{name}: {slow} / {quick}"

"""Baseline: an earlier matrix to compare with, its cells matched by their axes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import ValidationError

from testbed.campaign.matrix.axes import DEFAULTS
from testbed.campaign.matrix.tally import contradicts, is_fine
from testbed.model.errors import InputError
from testbed.model.json_reader import parse_json
from testbed.model.matrix import SCHEMA_VERSION, CellChange, MatrixComparison, MatrixReport
from testbed.model.outcome import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from testbed.model.matrix import MatrixRow
    from testbed.model.outcome import Outcome

#: a cell by its axes
Key = tuple[tuple[str, str], ...]
_BADNESS = (Verdict.GOOD, Verdict.SKIP, Verdict.BAD, Verdict.BROKEN)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All runs of one cell."""

    verdict: Verdict  #: the most frequent; of equally frequent ones the worst
    runs: int
    agreeing: int  #: how many of them gave it
    fine: bool
    contradicts: bool  #: a rule says another verdict
    unstable: str
    reason: str


def read_baseline(path: Path) -> dict[Key, Summary]:
    """Return the cells of a matrix's JSON; raise InputError if it is not one, or of another schema."""
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"baseline {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"baseline {path}: is not JSON: {error}") from None
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(value, dict) or "rows" not in value:
        raise InputError(
            f"baseline {path}: is not a matrix", hint="write one with: testbed matrix FILE --json BASE.json"
        )
    if schema != SCHEMA_VERSION:
        raise InputError(
            f"baseline {path}: is of schema {schema}, this test bed's is {SCHEMA_VERSION}",
            hint="make it again with this version",
        )
    try:
        report = MatrixReport.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"baseline {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return summarized(zip(report.rows, report.cells, strict=False))


def summarized(runs: Iterable[tuple[MatrixRow, Outcome]]) -> dict[Key, Summary]:
    """Return every cell with what its runs say together."""
    of_cell: dict[Key, list[Summary]] = {}
    for row, outcome in runs:
        summary = Summary(
            verdict=outcome.verdict,
            runs=1,
            agreeing=1,
            fine=is_fine(outcome),
            contradicts=contradicts(outcome),
            unstable=row.unstable,
            reason=outcome.reason,
        )
        of_cell.setdefault(_key(row.axes), []).append(summary)
    return {key: _together(summaries) for key, summaries in of_cell.items()}


def _key(axes: Mapping[str, str]) -> Key:
    """Return what names a cell: its values that are not the default, so that an axis more makes no other cell of it."""
    return tuple(sorted((axis, label) for axis, label in axes.items() if label != DEFAULTS.get(axis)))


def axes_of(key: Key) -> dict[str, str]:
    """Return a cell's value on every axis, defaults included, in the order in which cells are counted."""
    return {axis: str(default) for axis, default in DEFAULTS.items()} | dict(key)


def _together(summaries: list[Summary]) -> Summary:
    counts = Counter(each.verdict for each in summaries)
    verdict = max(counts, key=lambda each: (counts[each], _BADNESS.index(each)))
    first = next(each for each in summaries if each.verdict is verdict)
    return replace(first, runs=len(summaries), agreeing=counts[verdict])


def compare(before: dict[Key, Summary], now: dict[Key, Summary]) -> MatrixComparison:
    """Return what changed.

    A regression is a verdict that is bad or broken and contradicts what is expected, where it was another before. A
    cell that the baseline lacks cannot have got worse; if its verdict is not the expected one it is in `new_bad`.
    """
    both = [key for key in now if key in before]
    changed = [_change(key, before[key], now[key]) for key in both if before[key].verdict is not now[key].verdict]
    return MatrixComparison(
        changed=changed,
        new=[axes_of(key) for key in now if key not in before],
        new_bad=[axes_of(key) for key, cell in now.items() if key not in before and not (cell.fine or cell.unstable)],
        gone=[axes_of(key) for key in before if key not in now],
        same=len(both) - len(changed),
    )


def _change(key: Key, before: Summary, now: Summary) -> CellChange:
    worse = not now.fine and (before.fine or _BADNESS.index(now.verdict) > _BADNESS.index(before.verdict))
    return CellChange(
        axes=axes_of(key),
        before=before.verdict,
        now=now.verdict,
        regression=worse and not now.unstable,
        unstable=now.unstable,
        reason=now.reason,
    )

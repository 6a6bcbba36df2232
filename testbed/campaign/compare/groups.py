"""Which neighbouring columns came out the same."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.outcome import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.outcome import Outcome

#: latencies differ if they are further apart than this share of the longer one, and than this many guest seconds
_SHARE, _SECONDS = 0.1, 0.5


@dataclass(frozen=True)
class Ran:
    """A scenario in one column."""

    label: str
    outcome: Outcome


def same_latency(one: float | None, other: float | None) -> bool:
    """Return whether two latencies are the same within what the bed can tell; one that was not waited for is no."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= max(_SECONDS, _SHARE * max(one, other))


def same_result(one: Outcome, other: Outcome) -> bool:
    """Return whether two cells came out the same: verdict, what the guest did, and how long it took."""
    if (one.verdict, one.outcome) != (other.verdict, other.outcome):
        return False
    if one.verdict is Verdict.SKIP:
        return one.reason == other.reason
    if one.verdict is Verdict.BROKEN:
        return True
    return same_latency(one.guest_seconds, other.guest_seconds)


def collapse(columns: Sequence[Ran]) -> list[list[Ran]]:
    """Return the columns in their order, neighbours of one template that came out like the first of them together."""
    groups: list[list[Ran]] = []
    for column in columns:
        first = groups[-1][0].outcome if groups else None
        if first and first.machine == column.outcome.machine and same_result(first, column.outcome):
            groups[-1].append(column)
        else:
            groups.append([column])
    return groups


def pairs_to_compare(columns: Sequence[Ran]) -> list[tuple[Ran, Ran]]:
    """Return the neighbours between which the result changes, and two columns whatever they are; skipped ones aside."""
    ran = [column for column in columns if column.outcome.verdict is not Verdict.SKIP]
    if len(columns) == 2 and len(ran) == 2:
        return [(ran[0], ran[1])]
    groups = collapse(ran)
    return [
        (before[-1], after[0])
        for before, after in itertools.pairwise(groups)
        if not same_result(before[0].outcome, after[0].outcome)
    ]

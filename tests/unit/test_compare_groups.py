"""Neighbouring columns that came out the same."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.campaign.compare.groups import collapse, pairs_to_compare, same_latency, same_result
from testbed.model.outcome import Verdict
from tests.unit.compared import outcome, ran

RESULTS = st.lists(st.tuples(st.sampled_from(Verdict), st.sampled_from([0.3, 0.6, 6.2, 6.6, 30.0])), max_size=30)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (0.3, 0.7, True),
        (0.3, 0.9, False),
        (6.2, 6.7, True),
        (30.0, 32.9, True),
        (30.0, 34.0, False),
        (None, None, True),
        (None, 0.1, False),
    ],
)
def test_latencies_differ_beyond_a_tenth_and_half_a_second(one: float | None, other: float | None, same: bool) -> None:
    assert same_latency(one, other) is same
    assert same_latency(other, one) is same


@given(RESULTS)
def test_collapsing_loses_no_column_and_leaves_no_neighbours_that_begin_alike(
    results: list[tuple[Verdict, float]],
) -> None:
    columns = [ran(f"m{index}", *result) for index, result in enumerate(results)]
    groups = collapse(columns)
    assert [column for group in groups for column in group] == columns
    for group in groups:
        assert all(same_result(group[0].outcome, each.outcome) for each in group)
    for before, after in itertools.pairwise(groups):
        assert not same_result(before[0].outcome, after[0].outcome)


@given(RESULTS)
def test_pairs_are_neighbours_in_order_and_never_skipped(results: list[tuple[Verdict, float]]) -> None:
    columns = [ran(f"m{index}", *result) for index, result in enumerate(results)]
    judged = [column for column in columns if column.outcome.verdict is not Verdict.SKIP]
    neighbours = list(itertools.pairwise(judged))
    assert all(pair in neighbours for pair in pairs_to_compare(columns))


def test_two_columns_are_compared_even_if_they_came_out_the_same() -> None:
    one, other = ran("a", Verdict.GOOD, 0.3), ran("b", Verdict.GOOD, 0.3)
    assert pairs_to_compare([one, other]) == [(one, other)]
    assert pairs_to_compare([one, other, ran("c", Verdict.GOOD, 0.3)]) == []


def test_machines_of_two_templates_never_collapse_and_are_compared_only_if_the_result_changes() -> None:
    columns = [ran("q35", Verdict.GOOD, 0.3), ran("pc", Verdict.GOOD, 0.3, machine="i440fx")]
    assert collapse(columns) == [[columns[0]], [columns[1]]]
    more = [ran("pc-q35-7.1", Verdict.GOOD, 0.3), *columns]
    assert pairs_to_compare(more) == []


def test_a_skipped_column_stands_between_no_one() -> None:
    columns = [ran("a", Verdict.BAD, 30.0), ran("b", Verdict.SKIP), ran("c", Verdict.GOOD, 0.3)]
    assert pairs_to_compare(columns) == [(columns[0], columns[2])]


def test_skips_collapse_only_with_the_same_reason() -> None:
    lacking = outcome(Verdict.SKIP, reason="no igb")
    assert same_result(lacking, lacking)
    assert not same_result(lacking, outcome(Verdict.SKIP, reason="no nvme"))

"""From outcomes to a case's result, and from results to exit codes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.cell.judge import OTHER_VERSION, REJECTED, rule
from testbed.campaign.run import exit_code, guess_seconds, summarize, worst_exit
from testbed.model.errors import LackingError, OtherVersionError
from testbed.model.outcome import Because, CaseResult, Cell, Finding, Role, RunReport, Verdict
from testbed.model.version_rule import VersionRule

from .outcomes import outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

GOOD, BAD, SKIP, BROKEN = Verdict.GOOD, Verdict.BAD, Verdict.SKIP, Verdict.BROKEN
FAILING, CONTROL, EXTRA = Role.FAILING, Role.CONTROL, Role.EXTRA

Row = tuple[Role, Verdict | None, Verdict]


def report(*rows: Row, case: str | None = "case") -> RunReport:
    return summarize(case, [outcome(verdict, expected, role=role) for role, expected, verdict in rows])


CASES: list[tuple[Sequence[Row], CaseResult, int]] = [
    ([(FAILING, BAD, BAD), (CONTROL, GOOD, GOOD)], CaseResult.REPRODUCED, 0),
    ([(FAILING, BAD, GOOD), (CONTROL, GOOD, GOOD)], CaseResult.DIFFERS, 1),
    ([(FAILING, BAD, BAD), (CONTROL, GOOD, BAD)], CaseResult.DIFFERS, 1),
    ([(FAILING, BAD, BAD), (CONTROL, GOOD, GOOD), (EXTRA, GOOD, BAD)], CaseResult.DIFFERS, 1),
    ([(FAILING, BAD, SKIP), (CONTROL, GOOD, GOOD)], CaseResult.SKIPPED, 125),
    ([(FAILING, BAD, BAD), (CONTROL, GOOD, SKIP)], CaseResult.SKIPPED, 125),
    ([(FAILING, BAD, BAD), (CONTROL, GOOD, GOOD), (EXTRA, GOOD, SKIP)], CaseResult.REPRODUCED, 0),
    ([(FAILING, BAD, SKIP), (CONTROL, GOOD, BAD)], CaseResult.SKIPPED, 125),
    ([(FAILING, BAD, BAD), (CONTROL, GOOD, GOOD), (EXTRA, GOOD, BROKEN)], CaseResult.BROKEN, 128),
    ([(FAILING, BAD, SKIP), (CONTROL, GOOD, BROKEN)], CaseResult.BROKEN, 128),
    ([(FAILING, BAD, GOOD), (CONTROL, GOOD, BROKEN)], CaseResult.BROKEN, 128),
    # what nobody has seen is not reproduced
    ([(EXTRA, GOOD, SKIP)], CaseResult.SKIPPED, 125),
    # a documented verdict may be a skip of its own
    ([(FAILING, BAD, BAD), (CONTROL, GOOD, GOOD), (EXTRA, SKIP, GOOD)], CaseResult.DIFFERS, 1),
]


@pytest.mark.parametrize(("rows", "result", "code"), CASES)
def test_the_result_of_a_case_and_its_exit_code(rows: Sequence[Row], result: CaseResult, code: int) -> None:
    summary = report(*rows)
    assert summary.result is result
    assert exit_code(summary) == code


@pytest.mark.parametrize(("rows", "result", "code"), CASES)
def test_the_order_of_cells_does_not_count(rows: Sequence[Row], result: CaseResult, code: int) -> None:
    assert {report(*order).result for order in itertools.permutations(rows)} == {result}


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ((GOOD,), 0),
        ((BAD,), 1),
        ((SKIP,), 125),
        ((BROKEN,), 128),
        ((GOOD, SKIP), 125),
        ((GOOD, SKIP, BAD), 1),
        ((BAD, BROKEN, GOOD), 128),
        ((), 0),
    ],
)
def test_free_cells_exit_with_their_worst_verdict(verdicts: Sequence[Verdict], code: int) -> None:
    for order in itertools.permutations(verdicts):
        assert exit_code(report(*((EXTRA, None, verdict) for verdict in order), case=None)) == code


@pytest.mark.parametrize("case", ["case", None])
def test_input_that_qemu_rejected_is_wrong_usage(case: str | None) -> None:
    cells = [outcome(BAD), outcome(BROKEN, outcome=REJECTED)]
    assert exit_code(summarize(case, cells)) == 2


@pytest.mark.parametrize(
    ("codes", "worst"),
    [
        ((), 0),
        ((0, 0), 0),
        ((0, 125), 125),
        ((125, 1), 1),
        ((1, 128, 0), 128),
        ((128, 2, 1), 2),
    ],
)
def test_several_reports_exit_with_the_worst(codes: Sequence[int], worst: int) -> None:
    for order in itertools.permutations(codes):
        assert worst_exit(order) == worst


@pytest.mark.parametrize(
    ("verdict", "expected", "as_expected"),
    [(GOOD, None, True), (BAD, None, False), (BAD, BAD, True), (GOOD, BAD, False), (SKIP, None, False)],
)
def test_good_is_expected_where_nothing_is_documented(
    verdict: Verdict, expected: Verdict | None, as_expected: bool
) -> None:
    assert outcome(verdict, expected).as_expected is as_expected


def test_the_run_of_a_case_that_lasts_longest_is_known_before() -> None:
    cells = [
        Cell(scenario="vm-survives-error", machine="level1", options={"remedy": remedy}, expected=expected)
        for remedy, expected in (("none", BAD), ("reset", GOOD), ("unbind", BAD))
    ]
    assert max(cells, key=guess_seconds).options == {"remedy": "reset"}
    ignored, served = (Cell(scenario="disk-unplug", machine="q35", expected=each) for each in (BAD, GOOD))
    assert guess_seconds(ignored) > guess_seconds(served), "an ignored request lasts until its deadline"


def test_bad_by_another_outcome_differs_and_says_so() -> None:
    crashed = outcome(BAD, BAD, outcome="crashed", expected_outcome="ignored", reason="the guest crashed (oops)")
    assert summarize("case", [crashed]).result is CaseResult.DIFFERS
    assert crashed.disagreement == "bad as documented, but crashed instead of ignored: the guest crashed (oops)"
    assert not outcome(BAD, BAD, outcome="ignored", expected_outcome="ignored").disagreement
    assert outcome(GOOD, BAD, expected_outcome="ignored").disagreement == "good (word) instead of bad (ignored)"


def test_a_verdict_without_the_finding_it_rests_on_differs() -> None:
    seen = Finding(subject="slot driver", expected="pciehp", observed="nobody serves 0000:01:00", evidence="k:1")
    pins = [Because(subject="slot driver", observed="^nobody"), Because(subject="_OSC", observed="ASPM")]
    assert not outcome(BAD, BAD, findings=(seen,), because=tuple(pins[:1])).disagreement
    assert outcome(BAD, BAD, findings=(seen,), because=tuple(pins)).disagreement == (
        "bad as documented, but not because of _OSC ~ ASPM: observed nothing of it"
    )
    other = Because(subject="slot driver", observed="acpiphp")
    assert "observed nobody serves 0000:01:00" in outcome(BAD, BAD, findings=(seen,), because=(other,)).disagreement


def test_a_finding_may_be_due_on_some_versions_alone() -> None:
    until = Because(subject="_OSC", observed="ASPM", until=VersionRule(kernel="7.2", reason="seen"))
    since = Because(subject="_OSC", observed="ASPM", since=VersionRule(qemu="8.0", reason="seen"))
    assert [until.holds(kernel=kernel, qemu="5.2.0") for kernel in ("6.12.95+deb12-amd64", "7.2.13", "7.3.4")] == [
        True,
        False,
        False,
    ]
    assert [since.holds(kernel="6.1.0", qemu=qemu) for qemu in ("7.2.22 (Debian)", "10.0.2 (Debian)")] == [False, True]
    assert until.holds(qemu="5.2.0"), "whose kernel is unknown is not let off"


@pytest.mark.parametrize(("instead", "result"), [(True, CaseResult.REPRODUCED), (False, CaseResult.SKIPPED)])
def test_a_row_of_another_version_may_stand_for_one(instead: bool, result: CaseResult) -> None:
    """A case whose failing row is for older QEMUs is reproduced where one for newer ones ran."""
    other = outcome(SKIP, BAD, role=FAILING, outcome=OTHER_VERSION)
    ran = [outcome(BAD, BAD, role=FAILING)] if instead else []
    assert summarize("case", [other, *ran, outcome(GOOD, GOOD, role=CONTROL)]).result is result


def test_a_row_of_another_version_is_told_from_what_is_lacking() -> None:
    errors = (OtherVersionError("m", lacking="8.1"), LackingError("m", lacking="igb"))
    assert [(rule(each, stimulus=None).verdict, rule(each, stimulus=None).outcome) for each in errors] == [
        (SKIP, OTHER_VERSION),
        (SKIP, "unsupported"),
    ]

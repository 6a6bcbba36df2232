"""KTAP: what counts as ok, error and skip, and text of a guest's that would be taken for a line of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.model.outcome import Finding, Outcome, Verdict
from testbed.report.ktap_file import ktap_text, to_ktap

from ..paper_rundirs import write_rundir

GOOD, BAD, SKIP, BROKEN = Verdict.GOOD, Verdict.BAD, Verdict.SKIP, Verdict.BROKEN

with TemporaryDirectory() as _folder:
    CELL = write_rundir(Path(_folder) / "disk-unplug" / "01", lines=0)

_RESULT = re.compile(r"(ok|not ok) ([0-9]+) ([^#]*?)(?: # ?(SKIP|TODO|XFAIL|TIMEOUT|ERROR)?[^#]*)?")
#: kunit.py reads a kernel's log, and stops where one of these is in a line
_ENDS_OF_A_LOG = re.compile("List of all partitions:|Kernel panic - not syncing: VFS:|reboot: System halted")


@dataclass(frozen=True)
class Read:
    """A test as a reader of KTAP has it."""

    passed: bool
    name: str
    directive: str
    said: tuple[str, ...]  #: the diagnostic lines before its result
    subtests: tuple[Read, ...]


def read(text: str) -> list[Read]:
    """Return the tests of a KTAP file, each of whose lines must be KTAP."""
    assert text.endswith("\n")
    lines = text.removesuffix("\n").split("\n")
    assert not [line for line in lines if _ENDS_OF_A_LOG.search(line)]
    tests = _tests(lines, "")
    assert not lines
    return tests


def _tests(lines: list[str], indent: str) -> list[Read]:
    assert lines.pop(0) == f"{indent}KTAP version 1"
    if indent:
        assert lines.pop(0).startswith(f"{indent}# Subtest: ")
    plan = lines.pop(0)
    tests: list[Read] = []
    for number in range(1, int(plan.removeprefix(f"{indent}1..")) + 1):
        said = []
        subtests: list[Read] = []
        while not (match := _RESULT.fullmatch(lines[0].removeprefix(indent))):
            if lines[0].startswith(f"{indent}  "):
                subtests = _tests(lines, f"{indent}  ")
            else:
                assert lines[0].startswith(f"{indent}# "), lines[0]
                said.append(lines.pop(0).removeprefix(f"{indent}# "))
        lines.pop(0)
        assert int(match[2]) == number
        tests.append(Read(match[1] == "ok", match[3], match[4] or "", tuple(said), tuple(subtests)))
    return tests


def cell(**changed: object) -> Outcome:
    return CELL.model_copy(update=changed)


def only(outcome: Outcome) -> Read:
    (suite,) = read(to_ktap([outcome]))
    assert suite.name == "disk-unplug"
    (test,) = suite.subtests
    assert suite.passed is test.passed
    assert (suite.directive == "SKIP") is (test.directive == "SKIP")
    return test


@pytest.mark.parametrize(
    ("verdict", "expected", "passed", "directive"),
    [
        (GOOD, None, True, ""),
        (GOOD, GOOD, True, ""),
        (BAD, BAD, True, ""),
        (BAD, None, False, ""),
        (BAD, GOOD, False, ""),
        (GOOD, BAD, False, ""),
        (BROKEN, None, False, "ERROR"),
        (BROKEN, BAD, False, "ERROR"),
        (SKIP, None, True, "SKIP"),
        (SKIP, BAD, True, "SKIP"),
    ],
)
def test_a_verdict_and_what_it_counts_as(
    verdict: Verdict, expected: Verdict | None, passed: bool, directive: str
) -> None:
    test = only(cell(verdict=verdict, expected=expected))
    assert (test.passed, test.directive) == (passed, directive)
    assert test.name == CELL.id


def test_a_failure_has_its_findings_and_where_the_rest_lies() -> None:
    text = to_ktap([cell(verdict=BAD, outcome="ignored", reason="nothing happened", hint="look")])
    said = "\n".join(only(cell(verdict=BAD, hint="look")).said)
    assert "not ok 1 disk-unplug q35 # bad (ignored) instead of good: nothing happened" in text
    assert "finding: QMP event: expected DEVICE_DELETED, observed DEVICE_DELETED after 6.4 s (qmp.jsonl:4)" in said
    assert "hint: look" in said
    assert f"rundir: {CELL.rundir}" in said


def test_a_documented_bug_that_came_is_ok_and_says_so() -> None:
    text = to_ktap([cell(verdict=BAD, expected=BAD, outcome="ignored")])
    assert "  ok 1 disk-unplug q35 # bad (ignored) as documented\n" in text


def test_each_case_is_a_test_that_fails_with_any_of_its_cells() -> None:
    good, bad = cell(rundir="/r/a/01"), cell(rundir="/r/b/01")
    suites = read(to_ktap([good, bad, cell(rundir="/r/b/02", verdict=BAD), cell(rundir="/r/c/01", verdict=SKIP)]))
    assert [(suite.name, suite.passed, suite.directive) for suite in suites] == [
        ("a", True, ""),
        ("b", False, ""),
        ("c", True, "SKIP"),
    ]
    assert [test.passed for test in suites[1].subtests] == [True, False]


def test_no_cells_are_a_plan_of_none() -> None:
    assert to_ktap([]) == "KTAP version 1\n1..0\n"


#: text that would be a line, a directive or the end of a log
_LINES = (
    *("\n", "\r", " ", "\u2028", "\x1b[2J", "ok 1 x", "not ok 2 y", "KTAP version 1", "1..9"),
    *("#", "\\#", "# SKIP z", "# Subtest: q", "reboot: System halted", "List of all partitions:"),
    "Kernel panic - not syncing: VFS: x",
)
_HOSTILE = st.lists(st.sampled_from(_LINES) | st.text(max_size=5)).map("".join)


@given(_HOSTILE, _HOSTILE, st.sampled_from(list(Verdict)), st.sampled_from([None, GOOD, BAD]))
def test_no_text_adds_takes_or_turns_a_result(
    text: str, other: str, verdict: Verdict, expected: Verdict | None
) -> None:
    finding = Finding(subject=text, expected=other, observed=text, evidence="kernel.log:1")
    hostile = cell(
        id=text, reason=other, outcome=text, hint=other, findings=(finding,), verdict=verdict, expected=expected
    )
    (suite,) = read(to_ktap([hostile, cell(verdict=BAD), cell()]))
    plain = only(cell(verdict=verdict, expected=expected))
    assert [(test.passed, test.directive) for test in suite.subtests] == [
        (plain.passed, plain.directive),
        (False, ""),
        (True, ""),
    ]


@given(st.text())
def test_text_is_one_line_and_stays_as_it_is_when_said_again(text: str) -> None:
    line = ktap_text(text)
    assert len(line.splitlines()) <= 1
    assert "#" not in line
    assert ktap_text(line) == line

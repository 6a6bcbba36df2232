"""Outcomes for CI systems: JUnit XML, as Jenkins and GitLab read it."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from junitparser import Error, Failure, JUnitXml, Skipped
from junitparser.xunit2 import TestCase, TestSuite

from testbed.model.outcome import Verdict
from testbed.report.axes import plain_value, suite_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from testbed.model.outcome import Outcome

#: what XML 1.0 has no way to say (section 2.2, Char)
_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: what a reader wants to know of a cell beside its verdict
_PROPERTIES = (
    "rundir",
    "outcome",
    "expected",
    "expected_outcome",
    "machine_type",
    "kernel",
    "kernel_cmdline",
    "user_space",
    "qemu",
    "accel",
    "cpu",
)


def to_junit(outcomes: Sequence[Outcome]) -> str:
    """Return JUnit XML: `broken` is an error, another verdict than the expected one a failure, `skip` skipped.

    Where nothing is expected, good is.
    """
    xml = JUnitXml("testbed")
    for name, cells in groupby(outcomes, key=suite_of):
        suite = TestSuite(xml_text(name))  # type: ignore[no-untyped-call]
        for cell in cells:
            suite.add_testcase(_test(cell, name))
        xml.add_testsuite(suite)
    xml.update_statistics()  # type: ignore[no-untyped-call]
    text: bytes = xml.tostring()  # type: ignore[no-untyped-call]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text.decode("utf-8")}\n'


def xml_text(text: str) -> str:
    """Return text with every character that XML cannot hold spelled out, such as the ESC of a terminal sequence."""
    return _UNSPEAKABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def _test(outcome: Outcome, suite: str) -> TestCase:
    test = TestCase(xml_text(outcome.id), classname=f"testbed.{xml_text(suite)}", time=outcome.wall_seconds)
    for name in _PROPERTIES:
        test.add_property(name, xml_text(plain_value(getattr(outcome, name))))
    result = _result(outcome)
    if result is not None:
        result.text = xml_text("\n".join(_findings(outcome)))
        test.result = [result]
    return test


def _result(outcome: Outcome) -> Error | Failure | Skipped | None:
    message, kind = xml_text(outcome.reason), xml_text(outcome.outcome)
    if outcome.verdict is Verdict.SKIP:
        return Skipped(message, kind)
    if outcome.as_expected:
        return None
    if outcome.verdict is Verdict.BROKEN:
        return Error(message, kind)
    return Failure(f"{xml_text(outcome.disagreement)}: {message}", kind)


def _findings(outcome: Outcome) -> Iterable[str]:
    for finding in outcome.findings:
        yield f"{finding.subject}: expected {finding.expected}, observed {finding.observed} ({finding.evidence})"
    if outcome.hint:
        yield f"hint: {outcome.hint}"
    yield f"rundir: {outcome.rundir}"

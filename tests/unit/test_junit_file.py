"""JUnit XML: what counts as failure, error and skip, and text of a guest's that XML cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.model.outcome import Finding, Outcome, Verdict
from testbed.report.junit_file import to_junit, xml_text

from ..paper_rundirs import write_rundir

if TYPE_CHECKING:
    from pathlib import Path

GOOD, BAD, SKIP, BROKEN = Verdict.GOOD, Verdict.BAD, Verdict.SKIP, Verdict.BROKEN


@pytest.fixture
def cell(tmp_path: Path) -> Outcome:
    return write_rundir(tmp_path / "disk-unplug" / "01", lines=0)


def parsed(*outcomes: Outcome) -> ET.Element:
    return ET.fromstring(to_junit(outcomes))


@pytest.mark.parametrize(
    ("verdict", "expected", "child"),
    [
        (GOOD, None, None),
        (GOOD, GOOD, None),
        (BAD, BAD, None),
        (BAD, None, "failure"),
        (BAD, GOOD, "failure"),
        (GOOD, BAD, "failure"),
        (BROKEN, None, "error"),
        (BROKEN, BAD, "error"),
        (SKIP, None, "skipped"),
        (SKIP, BAD, "skipped"),
        (SKIP, SKIP, "skipped"),
    ],
)
def test_a_verdict_and_what_it_counts_as(
    cell: Outcome, verdict: Verdict, expected: Verdict | None, child: str | None
) -> None:
    xml = parsed(cell.model_copy(update={"verdict": verdict, "expected": expected}))
    test = xml.find("testsuite/testcase")
    assert test is not None
    assert [each.tag for each in test if each.tag != "properties"] == ([child] if child else [])
    counts = {name: int(xml.attrib[name]) for name in ("failures", "errors", "skipped")}
    assert counts == {name: int(child is not None and name.startswith(child)) for name in counts}
    assert xml.attrib["tests"] == "1"


def test_a_failure_has_its_findings_and_where_the_rest_lies(cell: Outcome) -> None:
    failure = parsed(cell.model_copy(update={"verdict": BAD})).find(".//failure")
    assert failure is not None
    assert failure.attrib["message"].startswith("bad (")
    assert failure.attrib["message"].endswith("instead of good: released after 6.4 s")
    assert "QMP event: expected DEVICE_DELETED, observed DEVICE_DELETED after 6.4 s (qmp.jsonl:4)" in (
        failure.text or ""
    )
    assert cell.rundir in (failure.text or "")


def test_a_test_has_its_rundir_and_what_was_run(cell: Outcome) -> None:
    test = parsed(cell).find("testsuite/testcase")
    assert test is not None
    properties = {each.attrib["name"]: each.attrib["value"] for each in test.iter("property")}
    assert properties["rundir"] == cell.rundir
    assert properties["qemu"] == cell.qemu
    assert test.attrib["classname"] == "testbed.disk-unplug"
    assert float(test.attrib["time"]) == cell.wall_seconds


def test_what_a_guest_wrote_is_text_and_its_control_characters_are_spelled_out(cell: Outcome) -> None:
    hostile = '\x1b[2J]]></failure><script>alert("1")</script>\x00&'
    finding = Finding(subject=hostile, expected=hostile, observed=hostile, evidence=hostile)
    bad = cell.model_copy(update={"verdict": BAD, "reason": hostile, "id": hostile, "findings": (finding,)})
    failure = parsed(bad).find(".//failure")
    assert failure is not None
    assert '\\x1b[2J]]></failure><script>alert("1")</script>\\x00&' in (failure.text or "")


@given(st.text(st.characters()))
def test_any_text_survives_xml(text: str) -> None:
    said = xml_text(text)
    element = ET.Element("e")
    element.text = said
    # a reader of XML may take \r for the end of a line
    assert (ET.fromstring(ET.tostring(element)).text or "").replace("\r", "\n").count("\n") >= said.count("\n")
    assert xml_text(said) == said

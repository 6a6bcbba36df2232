"""What was seen at first and later becomes one look, and a process that stands still is told with those beside it."""

from __future__ import annotations

from testbed.model.errors import BlockedError, Standing
from testbed.model.outcome import Finding, standing_findings
from testbed.scenarios.late_look import Look, _later


def look(observed: str, *, works: bool) -> Look:
    finding = Finding(subject="disk dev1", expected="read", observed=observed, evidence="shell.jsonl:1")
    return Look(works=works, observed=observed, findings=(finding,))


def test_a_late_look_counts_and_keeps_the_first() -> None:
    seen = _later(look("no answer", works=False), look("read", works=True), 100.0)
    assert seen.works
    assert seen.observed == "at first no answer; 100 s after the error read"
    assert [each.subject for each in seen.findings] == ["disk dev1", "disk dev1, 100 s after the error"]


def test_a_blocked_process_is_told_with_who_may_hold_what_it_waits_for() -> None:
    holder = Standing(task="process 9 (kworker) is …", stack=("nvme_reset_work",), evidence="shell.jsonl:8")
    blocked = BlockedError("cat x", "process 7 (cat) is …", stack=(), evidence="shell.jsonl:7", others=[holder])
    first, second = standing_findings(blocked)
    assert (first.observed, first.expected) == ("not in the kernel", "to make progress")
    assert (second.subject, second.observed) == ("process 9 (kworker) is …", "nvme_reset_work")
    assert second.expected != first.expected

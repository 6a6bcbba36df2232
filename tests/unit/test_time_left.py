"""What a run says of the time that is left, and of its cases at the end."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from testbed.campaign.execution.job_queue import Job, JobQueue
from testbed.model.outcome import CaseResult, RunReport
from testbed.report import time_left
from testbed.report.terminal import print_cases
from testbed.report.time_left import TimeLeft, span


class _Clock:
    """A wall clock that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    told = _Clock()
    monkeypatch.setattr(time_left, "time", told)
    return told


def test_what_is_left_is_told_at_the_pace_of_what_is_done(clock: _Clock) -> None:
    queue = JobQueue([Job(index=number, seconds=10, start="one") for number in range(9)], saved={"one"})
    left = TimeLeft(queue)
    for _ in range(3):
        assert queue.take() is not None
    clock.seconds = 15
    assert left.told(done=2, running=1) == "  30 s left"


def test_nothing_is_told_before_as_many_are_done_as_run(clock: _Clock) -> None:
    queue = JobQueue([Job(index=number) for number in range(4)])
    left = TimeLeft(queue)
    clock.seconds = 3
    assert left.told(done=0, running=0) == ""
    assert queue.take() is not None
    assert left.told(done=0, running=1) == ""


@pytest.mark.parametrize(("seconds", "told"), [(0.4, "0 s"), (89, "89 s"), (200, "3 min"), (7500, "2 h 5 min")])
def test_a_duration_for_people(seconds: float, told: str) -> None:
    assert span(seconds) == told


def test_at_the_end_cases_are_counted_and_those_not_reproduced_named() -> None:
    results = {"one": CaseResult.REPRODUCED, "two": CaseResult.DIFFERS, "three": CaseResult.REPRODUCED}
    console = Console(file=io.StringIO(), width=80)
    print_cases([RunReport(case=case, result=result, cells=()) for case, result in results.items()], console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == ["2 reproduced", "1 differs: two"]

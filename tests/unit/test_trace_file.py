"""The trace: events as the Trace Event Format wants them, a process a cell, a thread a speaker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from testbed.report.trace_file import to_trace

from ..paper_rundirs import write_rundir

if TYPE_CHECKING:
    from pathlib import Path


def events(tmp_path: Path, count: int) -> list[dict[str, Any]]:
    outcomes = [write_rundir(tmp_path / f"{n}", lines=5) for n in range(count)]
    read: list[dict[str, Any]] = json.loads(to_trace(outcomes))["traceEvents"]
    return read


def test_cells_are_processes_and_speakers_threads(tmp_path: Path) -> None:
    named = [event for event in events(tmp_path, 2) if event["name"] in ("process_name", "thread_name")]
    assert {event["args"]["name"] for event in named if event["pid"] == 2} >= {
        "good: disk-unplug q35",
        "actions",
        "QMP",
        "guest",
        "kernel",
    }
    assert {event["pid"] for event in named} == {1, 2}


def test_every_event_has_what_the_format_demands(tmp_path: Path) -> None:
    for event in events(tmp_path, 1):
        assert {"ph", "pid", "tid", "name"} <= set(event)
        if event["ph"] == "X":
            assert event["dur"] > 0
        if event["ph"] in "Xi":
            assert event["ts"] >= 0
            assert event["args"]["evidence"]


def test_a_command_is_a_span_and_its_answer_no_event_of_its_own(tmp_path: Path) -> None:
    found = {event["name"].split(" ")[0]: event for event in events(tmp_path, 1) if event["ph"] in "Xi"}
    assert found["device_del"]["ph"] == "X"
    assert (found["device_del"]["ts"], found["device_del"]["dur"]) == (5_119_000.0, 6000.0)
    assert "return" not in found
    assert found["event"]["ph"] == "i"


def test_the_history_of_a_saved_guest_is_left_out(tmp_path: Path) -> None:
    outcome = write_rundir(tmp_path / "1", lines=5)
    (tmp_path / "1" / "clock.jsonl").write_text(
        '{"wall_seconds": 0.4, "kernel_log": {"first": 6, "last": 6, "guest_seconds": 8.5}}\n'
    )
    trace = json.loads(to_trace([outcome]))["traceEvents"]
    assert [event["args"]["evidence"] for event in trace if event.get("cat") == "kernel"] == ["kernel.log:6"]

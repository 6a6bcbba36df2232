"""The timeline: four records of one cell on the bed's clock."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from testbed.campaign.record.timeline import Entry, Track, read_timeline
from testbed.model.outcome import Verdict

from ..paper_rundirs import write_rundir

if TYPE_CHECKING:
    from pathlib import Path


def write_lines(path: Path, *values: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))


def at(entries: list[Entry], evidence: str) -> Entry:
    (entry,) = (entry for entry in entries if entry.evidence == evidence)
    return entry


def test_request_answer_and_what_the_kernel_said_stand_in_their_order(tmp_path: Path) -> None:
    write_rundir(tmp_path / "1", lines=3)
    entries = read_timeline(tmp_path / "1")
    story = [(entry.track, entry.text.split()[0]) for entry in entries if entry.wall is not None and entry.wall > 5]
    assert story == [
        (Track.ACTION, "stimulus:"),
        (Track.ACTION, "device_del"),
        (Track.QMP, "return"),
        (Track.KERNEL, "pcieport"),
        (Track.QMP, "event"),
        (Track.GUEST, "/sys/bus/pci/devices/0000:01:00.0"),
    ]
    assert [entry.text for entry in entries if entry.stimulus] == ["stimulus: device_del dev1"]


def test_a_command_lasts_until_its_answer(tmp_path: Path) -> None:
    write_rundir(tmp_path / "1", lines=0)
    entries = read_timeline(tmp_path / "1")
    assert at(entries, "qmp.jsonl:3").seconds == pytest.approx(0.006)
    assert at(entries, "shell.jsonl:1").seconds == pytest.approx(0.1)
    assert at(entries, "qmp.jsonl:4").answer
    assert at(entries, "qmp.jsonl:5").seconds is None


def test_a_boot_is_spread_by_its_stamps_and_later_records_stand_where_they_came(tmp_path: Path) -> None:
    write_rundir(tmp_path / "1", lines=50)
    kernel = [entry for entry in read_timeline(tmp_path / "1") if entry.track is Track.KERNEL]
    *boot, last = kernel
    assert all(0.066 <= (entry.wall or 0) <= 4.0 for entry in boot)
    assert all((before.wall or 0) <= (after.wall or 0) for before, after in pairwise(boot))
    assert len({entry.wall for entry in boot}) == 50
    assert (last.wall, last.guest, last.measured, last.level) == (5.128, 8.0, True, 4)


def test_what_a_saved_guest_had_logged_is_from_before_the_run(tmp_path: Path) -> None:
    write_rundir(tmp_path / "1", lines=4)
    clock = {"wall_seconds": 0.4, "kernel_log": {"first": 5, "last": 5, "guest_seconds": 8.5}}
    write_lines(tmp_path / "1" / "clock.jsonl", clock)
    kernel = [entry for entry in read_timeline(tmp_path / "1") if entry.track is Track.KERNEL]
    assert [entry.wall for entry in kernel] == [None, None, None, None, 0.4]


def test_the_guests_time_of_a_qmp_message_is_read_off_between_answers(tmp_path: Path) -> None:
    tmp_path.joinpath("kernel.log").touch()
    write_lines(
        tmp_path / "shell.jsonl",
        {"wall_seconds": 1.0, "ended": {"command": "a", "status": 0, "output": "", "guest_seconds": 100.0}},
        {"wall_seconds": 3.0, "path": {"path": "/p", "exists": True, "guest_seconds": 200.0}},
    )
    write_lines(tmp_path / "qmp.jsonl", {"wall_seconds": 2.0, "event": {"event": "RESUME"}})
    event = at(read_timeline(tmp_path), "qmp.jsonl:1")
    assert (event.guest, event.measured) == (150.0, False)


def test_of_the_console_only_what_the_kernel_log_lacks_is_taken(tmp_path: Path) -> None:
    (tmp_path / "kernel.log").write_text("<6>[    1.000000] Linux version 6.1\n")
    lines = ("SeaBIOS", "[    1.000000] Linux version 6.1", "[    2.500000] Kernel panic - not syncing: Attempted", "")
    (tmp_path / "console.log").write_text("\r\n".join(lines))
    write_lines(tmp_path / "qmp.jsonl", {"wall_seconds": 0.5, "command": {"execute": "cont"}})
    console = [entry for entry in read_timeline(tmp_path) if entry.track is Track.CONSOLE]
    assert [(entry.text, entry.guest, entry.wall) for entry in console] == [
        ("SeaBIOS", None, 0.5),
        ("Kernel panic - not syncing: Attempted", 2.5, 3.0),
    ]


@pytest.mark.parametrize("half", ['{"wall_seconds": 3, "eve', "[1, 2]", '{"event": {}}', "\x00", '"text"'])
def test_a_journal_whose_writer_was_killed_is_read_up_to_there(tmp_path: Path, half: str) -> None:
    write_rundir(tmp_path / "1", verdict=Verdict.BAD, lines=2)
    whole = read_timeline(tmp_path / "1")
    for name in ("qmp.jsonl", "shell.jsonl", "clock.jsonl"):
        with (tmp_path / "1" / name).open("a") as file:
            file.write(half)
    assert read_timeline(tmp_path / "1") == whole


def test_a_cell_that_was_never_started_has_none(tmp_path: Path) -> None:
    assert read_timeline(tmp_path) == []


def test_a_carriage_return_of_the_guests_moves_no_line(tmp_path: Path) -> None:
    (tmp_path / "kernel.log").write_bytes(b"<6>[    1.000000] a\x0cb\xc2\x85c\r\n<6>[    2.000000] d\n")
    assert [entry.evidence for entry in read_timeline(tmp_path)] == ["kernel.log:1", "kernel.log:2"]


def test_a_machine_inside_and_a_trace_stand_on_the_outer_clock(tmp_path: Path) -> None:
    outer = tmp_path / "1"
    write_rundir(outer, lines=0)
    (outer / "level2").mkdir()
    with (outer / "shell.jsonl").open("a") as shell:
        shell.write(json.dumps({"wall_seconds": 6.0, "inner": {"rundir": "level2", "began": 2.5}}) + "\n")
    write_lines(outer / "level2" / "qmp.jsonl", {"wall_seconds": 2.61, "event": {"event": "STOP"}})
    (outer / "trace.txt").write_text("# head\n sh-12  [000] d.h1.  7.9: aer_irq <-__handle_irq_event_percpu\n")
    entries = read_timeline(outer)
    stop, irq = at(entries, "level2/qmp.jsonl:1"), at(entries, "trace.txt:2")
    assert (stop.track, stop.text) == (Track.LEVEL2, "qmp: event STOP")
    assert stop.wall == pytest.approx(5.11)
    assert (irq.track, irq.guest, irq.text) == (Track.TRACE, 7.9, "sh-12: aer_irq <-__handle_irq_event_percpu")
    assert (irq.wall or 0) < (stop.wall or 0)
    assert [entry.wall for entry in entries] == sorted(entry.wall or -1 for entry in entries)

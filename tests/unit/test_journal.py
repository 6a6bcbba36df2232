"""The journal: every reference names its own line of the file, at once and for any message."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.machine.journal import QMP_FILE, SHELL_FILE, Journal, JsonLines, Step, read_journal

if TYPE_CHECKING:
    from pathlib import Path

MESSAGES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


def cited(folder: Path, reference: str) -> dict[str, Any]:
    file, _, line = reference.rpartition(":")
    read: dict[str, Any] = json.loads((folder / file).read_text(encoding="utf-8").split("\n")[int(line) - 1])
    return read


def test_a_reference_can_be_read_while_the_machine_still_runs(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        first = journal.qmp.write("command", {"execute": "device_del"})
        second = journal.qmp.write("return", {})
        other = journal.shell.write("ended", {"status": 0})
        assert (first, second, other) == (f"{QMP_FILE}:1", f"{QMP_FILE}:2", f"{SHELL_FILE}:1")
        assert cited(tmp_path, first)["command"] == {"execute": "device_del"}
        assert cited(tmp_path, second)["return"] == {}
        assert cited(tmp_path, other)["ended"] == {"status": 0}


@given(st.lists(MESSAGES, min_size=1, max_size=5))
def test_any_message_is_one_line_and_reads_back(tmp_path_factory: pytest.TempPathFactory, messages: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("journal")
    lines = JsonLines(folder / QMP_FILE)
    references = [lines.write("event", message) for message in messages]
    lines.close()
    assert [cited(folder, reference)["event"] for reference in references] == messages


def test_what_is_no_json_is_written_as_text(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        assert cited(tmp_path, journal.qmp.write("event", {"path": tmp_path}))["event"] == {"path": str(tmp_path)}


def test_stamps_never_go_back(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        stamps = [cited(tmp_path, journal.qmp.write("x", n))["wall_seconds"] for n in range(20)]
    assert stamps == sorted(stamps)
    assert stamps[0] >= 0


def test_steps_are_kept_in_order_and_files_closed_at_the_end(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.step("guest", "true")
        journal.step("say", "stimulus")
    assert journal.steps == [Step(kind="guest", text="true"), Step(kind="say", text="stimulus")]
    with pytest.raises(ValueError, match="closed file"):
        journal.qmp.write("x", 1)


@given(st.lists(MESSAGES, max_size=5))
def test_what_was_written_is_read_with_its_references(
    tmp_path_factory: pytest.TempPathFactory, messages: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("journal") / QMP_FILE
    lines = JsonLines(path)
    references = [lines.write("event", message) for message in messages]
    lines.close()
    read = read_journal(path)
    assert [(line.message, line.evidence) for line in read] == [
        ({"event": message}, reference) for message, reference in zip(messages, references, strict=True)
    ]


def test_a_cut_line_is_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"wall_seconds": 1, "a": 1}\n{"wall\n{"wall_seconds": 2, "a": 2}\n')
    assert [line.evidence for line in read_journal(tmp_path / "x.jsonl")] == ["x.jsonl:1", "x.jsonl:3"]
    assert read_journal(tmp_path / "none.jsonl") == []

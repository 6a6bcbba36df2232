"""A recorded session: the lines that were typed, with what came of them as expectations, in a file that can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.guest.shell import Result
from testbed.model.errors import InputError, RefusedError
from testbed.steps.file import load_steps
from testbed.steps.record import Recording
from testbed.steps.step import Expect, Line
from testbed.verbs.answer import Answer

if TYPE_CHECKING:
    from pathlib import Path


def ended(output: str, status: int = 0) -> Answer:
    result = Result(
        command="c",
        status=status,
        stdout=output.encode(),
        stderr=b"",
        started=0.0,
        ended=0.0,
        evidence="shell.jsonl:1",
    )
    return Answer(text=f"{output}\nstatus {status}", value=result, ok=status == 0)


def read_back(recording: Recording, folder: Path) -> tuple[Any, ...]:
    path = folder / "recorded.yaml"
    path.write_text(recording.text(setup="q35"), encoding="utf-8")
    return load_steps(path).steps({})


def test_the_last_line_that_changed_the_machine_is_the_stimulus(tmp_path: Path) -> None:
    recording = Recording()
    recording.note("sh uname -s", ended("Linux"))
    recording.note("plug nvme on rp2 id=n", Answer(text="n on rp2: present\n  x", outcome="present"))
    recording.note("devices", Answer(text="id driver"))
    recording.note("query-status", Answer(text="{}", value={}))
    recording.note("unplug n", Answer(text="n: ignored\n  x", outcome="ignored", ok=False))
    recording.note_refusal(
        "device_del id=z", RefusedError("device_del", "Device 'z' not found", evidence="qmp.jsonl:1")
    )
    recording.note("unplug n", Answer(text="n: deleted\n  x", outcome="deleted"))
    recording.note("sh ls /a /b", ended("a: b\nb"))
    recording.note("# a comment", Answer())
    recording.note("sh false", ended("", 1))
    steps = read_back(recording, tmp_path)
    assert [
        (each.text, each.stimulus, each.fails.pattern if each.fails else "")
        if isinstance(each, Line)
        else each.condition.pattern.pattern
        for each in steps
    ] == [
        ("sh uname -s", False, ""),
        "^Linux$",
        ("plug nvme on rp2 id=n", False, ""),
        ": present$",
        ("unplug n", False, ": ignored$"),
        ("device_del id=z", False, "Device 'z' not found"),
        ("unplug n", True, ""),
        ": deleted$",
        ("sh ls /a /b", False, ""),
        ("sh false", False, "^status 1$"),
    ]


@pytest.mark.parametrize(
    ("line", "answer", "expected"),
    [
        ("cont", Answer(text="{}", value={}), r"^\{\}"),
        ("sh ls", ended("a\nb"), "^status 0$"),
        ("sh true", ended(""), "^status 0$"),
        ("system_reset", Answer(text="reset: Linux 6.1 is up\n  x", outcome="up"), r"^reset: Linux 6\.1 is up"),
        ("balloon value=1G", Answer(text=""), "^"),
    ],
)
def test_a_stimulus_of_which_nothing_is_known_is_expected_to_succeed(
    line: str, answer: Answer, expected: str, tmp_path: Path
) -> None:
    recording = Recording()
    recording.note(line, answer)
    stimulus, expect = read_back(recording, tmp_path)
    assert (stimulus.text, stimulus.stimulus, expect.condition.pattern.pattern) == (line, True, expected)
    assert expect.condition.pattern.search(answer.text)


def test_a_session_that_only_looked_is_not_recorded() -> None:
    recording = Recording()
    recording.note("devices", Answer(text="x"))
    with pytest.raises(InputError, match="nothing was recorded"):
        recording.text(setup="q35")


#: what a person may type and a guest may print: whatever YAML would take for something else
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ("a: b", "a #b", "- x", "'", '"', "{x}", "[", "null", "1", "yes", "&a", "*a", "!x", "%", "@", "`", "? x", "\t", "|")
)
LINES = TEXTS.map(lambda text: "sh x" + text.replace("\n", " ").replace("{{", "")).map(str.strip)


@given(entries=st.lists(st.tuples(LINES, TEXTS, st.booleans()), min_size=1, max_size=4))
def test_whatever_was_typed_and_printed_is_read_back_and_holds(
    entries: list[tuple[str, str, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    recording = Recording()
    answers = [ended(printed.replace("{{", ""), int(fails)) for _, printed, fails in entries]
    for (line, _, _), answer in zip(entries, answers, strict=True):
        recording.note(line, answer)
    steps = read_back(recording, tmp_path_factory.getbasetemp())
    lines = [each for each in steps if isinstance(each, Line)]
    assert [each.text for each in lines] == [line for line, _, _ in entries]
    for each, answer in zip(lines, answers, strict=True):
        assert each.fails is None or each.fails.search(answer.text)
    assert all(isinstance(each, Line | Expect) for each in steps)

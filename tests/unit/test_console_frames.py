"""Frames on a noisy console: exact answers, whatever is printed into them, by the guest's own shell text."""

from __future__ import annotations

import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.guest.console.frames import READY, SERVE, AnswerFrames, typed_again, typed_command, without_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: what a kernel and an init print
NOISE = (
    b"[   12.345678] pcieport 0000:00:02.0: pciehp: Slot(0): Card present\r\n",
    b"\x1b[0;32m  OK  \x1b[0m] Started serial-getty@ttyS0.service.\r\n",
    b"7:1:AAAA~\r\n7:0:1:0000~\r\n",
    b"~~~ ::: === 42\r\n",
)
#: what they print in another alphabet, or with an ellipsis
FOREIGN = "         Starting systemd-udevd\u2026 \u00e4\u00f6\u00fc \u2192 \u65e5\u672c\r\n".encode()


class Shell:
    """A shell of this host's that was told SERVE, as if on a console."""

    def __init__(self, program: str) -> None:
        # a terminal's settings are not there to be changed
        text = "stty() { :; }; " + SERVE + "\n"
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._send(text.encode())
        assert self._process.stdout
        assert self._process.stdout.readline() == f"{READY}\n".encode()

    def _send(self, line: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(line)

    def ask(self, line: bytes) -> bytes:
        """Type a line, and return all that comes of it: it ends with an empty line."""
        self._send(line)
        assert self._process.stdout
        return self._process.stdout.readline()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module", params=["dash", "bash"])
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    program = shutil.which(request.param)
    if program is None:
        pytest.skip(f"this host has no {request.param}")
    shell = Shell(program)
    yield shell
    shell.end()


def exchange(shell: Shell, command: str, number: int, noisy: Callable[[bytes], bytes]) -> tuple[AnswerFrames, int]:
    """Return the frames of an answer on a noisy line, and how often it was asked for."""
    frames = AnswerFrames(number=number)
    data = shell.ask(b"".join(typed_command(number, command)))
    for times in range(1, 40):
        frames.feed(noisy(data))
        if frames.answer():
            return frames, times
        data = shell.ask(typed_again(number, frames.missing))
    raise AssertionError("no answer in 40 tries")


@pytest.mark.parametrize(
    ("command", "status", "stdout", "stderr"),
    [
        ("true", 0, b"", b""),
        ("echo a; echo b >&2; exit 3", 3, b"a\n", b"b\n"),
        ("printf 'no end'", 0, b"no end", b""),
        ("printf '\\0\\1\\377~:\\n\\r'", 0, b"\0\1\xff~:\n\r", b""),
        ("head -c 5000 /dev/zero", 0, bytes(5000), b""),
        ("cat", 0, b"", b""),
        ("echo \"it's\" \\\n'two lines'", 0, b"it's two lines\n", b""),
    ],
)
def test_output_and_status_are_exact(shell: Shell, command: str, status: int, stdout: bytes, stderr: bytes) -> None:
    frames, times = exchange(shell, command, 1, lambda data: data)
    answer = frames.answer()
    assert answer
    assert (answer.status, answer.stdout, answer.stderr) == (status, stdout, stderr)
    assert answer.ended >= answer.began > 0
    assert times == 1


def with_noise(data: bytes, noise: list[bytes], dice: random.Random, each: int) -> bytes:
    """Return data with noise printed into it, about one piece in so many bytes."""
    parts = []
    for at in range(0, len(data), each):
        parts += [data[at : at + each], dice.choice(noise)]
    return b"".join(parts)


@pytest.mark.parametrize("each", [1, 16])
def test_messages_between_any_two_bytes_do_no_harm(shell: Shell, each: int) -> None:
    dice = random.Random(26)
    frames, times = exchange(shell, "seq 500; seq 9 >&2", 7, lambda data: with_noise(data, [*NOISE], dice, each))
    answer = frames.answer()
    assert answer
    assert answer.stdout.split() == [str(number).encode() for number in range(1, 501)]
    assert answer.stderr.split() == [str(number).encode() for number in range(1, 10)]
    assert times == 1, "nothing was asked for twice"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 30), each=st.integers(150, 600))
def test_messages_in_another_alphabet_cost_another_try(shell: Shell, seed: int, each: int) -> None:
    dice = random.Random(seed)
    frames, _ = exchange(shell, "seq 300", 3, lambda data: with_noise(data, [FOREIGN, *NOISE], dice, each))
    answer = frames.answer()
    assert answer
    assert answer.stdout == b"".join(b"%d\n" % number for number in range(1, 301))


@settings(max_examples=200, deadline=None)
@given(data=st.lists(st.binary(max_size=200), max_size=20))
def test_no_bytes_make_an_answer(data: list[bytes]) -> None:
    frames = AnswerFrames(number=1)
    for each in data:
        frames.feed(each)
    assert frames.answer() is None


def test_an_answer_to_another_question_is_none(shell: Shell) -> None:
    late = shell.ask(b"".join(typed_command(8, "echo late")))
    frames = AnswerFrames(number=9)
    frames.feed(late + shell.ask(b"".join(typed_command(9, "echo now"))))
    answer = frames.answer()
    assert answer
    assert answer.stdout == b"now\n"


def test_what_does_not_fit_in_a_terminal_s_line_is_typed_in_several(shell: Shell) -> None:
    long = f"echo '{'x' * 9000}' | wc -c"
    assert all(len(line) < 4096 for line in typed_command(5, long))
    frames, _ = exchange(shell, long, 5, lambda data: data)
    answer = frames.answer()
    assert answer
    assert answer.stdout.split() == [b"9001"]
    assert len(typed_again(1, list(range(1, 5000)))) < 4096


def test_what_people_read_has_no_frames(shell: Shell) -> None:
    data = shell.ask(b"".join(typed_command(6, "echo hidden")))
    assert without_frames(data + NOISE[0]) == b"\n" + NOISE[0]

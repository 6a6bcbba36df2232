"""Journal: what was said to and by QEMU and the guest's shell, in order.

Everything is written as it happens, to `qmp.jsonl` and `shell.jsonl`; a finding cites their lines, and `reproduce.sh`
replays the steps. `clock.jsonl` says when each part of the kernel log came, in the bed's time and in the guest's;
`mmio.jsonl` has the accesses to device registers that were traced.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from testbed.model.json_reader import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

QMP_FILE = "qmp.jsonl"
SHELL_FILE = "shell.jsonl"
CLOCK_FILE = "clock.jsonl"
MMIO_FILE = "mmio.jsonl"
StepKind = Literal["qmp", "guest", "say", "boot", "asleep"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing done to the machine that a reproduction must do again."""

    kind: StepKind
    text: str  #: a QMP command as JSON, a line for the guest's shell, or words for the reader; the others have none


class JsonLines:
    """A file of JSON lines, each stamped with wall seconds since its start."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._file = path.open("w", encoding="utf-8")
        self._count = 0
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Return the wall seconds since its start."""
        return time.monotonic() - self._start

    def write(self, direction: str, message: Any, **marks: str) -> str:
        """Append a message, with what else is to be known of its line, and return its reference, `FILE:LINE`."""
        seconds = round(self.seconds, 6)
        self._file.write(json.dumps({"wall_seconds": seconds, direction: message, **marks}, default=str) + "\n")
        self._file.flush()
        self._count += 1
        return f"{self._name}:{self._count}"

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # what a full disk does not take was told when it was written
            self._file.close()


class Journal:
    """The record of one machine."""

    def __init__(self, rundir: Path) -> None:
        with contextlib.ExitStack() as stack:
            files = (JsonLines(rundir / name) for name in (QMP_FILE, SHELL_FILE, CLOCK_FILE, MMIO_FILE))
            self.qmp, self.shell, self.clock, self.mmio = (stack.enter_context(contextlib.closing(f)) for f in files)
            self._files = stack.pop_all()
        #: what a reproduction replays
        self.steps: list[Step] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def step(self, kind: StepKind, text: str) -> None:
        """Remember a step for the reproduction."""
        self.steps.append(Step(kind=kind, text=text))


@dataclass(frozen=True, kw_only=True)
class JournalLine:
    """One line of a journal's file."""

    wall: float  #: seconds since the journal's start
    message: Mapping[str, Any]  #: the message, under its direction
    evidence: str  #: what a finding cites


def read_journal(path: Path) -> list[JournalLine]:
    """Return the lines of a journal's file; none if there is no file, and without those that are cut or garbled."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    read = (_line(line, f"{path.name}:{number}") for number, line in enumerate(text.split("\n"), start=1))
    return [line for line in read if line]


def _line(text: str, evidence: str) -> JournalLine | None:
    try:
        message = parse_json(text)
        return JournalLine(wall=float(message.pop("wall_seconds")), message=message, evidence=evidence)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None

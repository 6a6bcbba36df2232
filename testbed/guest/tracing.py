"""Tracing: what a guest's kernel does, by its own ftrace: events, and calls of functions with who called them.

Source: Linux Documentation/trace/ftrace.rst. The trace's clock is CLOCK_MONOTONIC, which is the guest's time here.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from testbed.guest.guest import Guest

FILE = "trace.txt"
_FOLDER = PurePosixPath("/sys/kernel/tracing")
_BUFFER_KIB = 8192
#: wall seconds in which the guest must have made text of a full buffer; 10,000 lines take a second under TCG
_TEXT_SECONDS = 600.0
#: of kvm, what shows an access to a device register and how it ended
MMIO_EVENTS = tuple(f"kvm/kvm_{name}" for name in ("exit", "entry", "page_fault", "emulate_insn", "mmio"))
_GZIP = 16 + zlib.MAX_WBITS
#: `kworker/0:1-12 [000] d.... 12.345678: aer_irq <-__handle_irq_event_percpu`; tgids or not
_LINE = re.compile(
    r"\s*(?P<task>.{1,32}?)-(?P<pid>[0-9]{1,10})\s+(?:\([^)]{1,12}\)\s+)?\[[0-9]{1,4}\]\s+\S{1,12}\s+"
    r"(?P<seconds>[0-9]{1,12}\.[0-9]{1,9}):\s(?P<text>.{1,400})"
)
_CALL = re.compile(r"(?P<function>[\w.]{1,120}) <-(?P<caller>[\w.]{1,120})")


@dataclass(frozen=True, kw_only=True)
class FtraceLine:
    """One line of a trace."""

    task: str
    pid: int
    seconds: float  #: guest time
    text: str
    number: int  #: in the file

    @property
    def call(self) -> tuple[str, str] | None:
        """Return function and caller; None for an event."""
        match = _CALL.fullmatch(self.text.strip())
        return (match["function"], match["caller"]) if match else None

    @property
    def evidence(self) -> str:
        """Return where it stands."""
        return f"{FILE}:{self.number}"


@contextlib.asynccontextmanager
async def tracing(
    guest: Guest, *, events: Sequence[str] = (), filters: Mapping[str, str] | None = None, functions: Sequence[str] = ()
) -> AsyncIterator[None]:
    """Record events (`kvm`, or `kvm/kvm_exit`) and calls of functions, and leave the text in the rundir.

    `filters` are further events, each with what must hold for it. What this kernel does not have is left out: a static
    function may have become part of its only caller.
    """
    chosen = {**dict.fromkeys(events, ""), **(filters or {})}
    await guest.shell.succeed(_begin(chosen, functions))
    try:
        yield
    finally:
        packed = (await guest.shell.run(_end(chosen), patience=_TEXT_SECONDS)).stdout
        (guest.machine.rundir / FILE).write_bytes(zlib.decompress(packed, _GZIP) if packed else b"")


def read_trace(rundir: Path) -> list[FtraceLine]:
    """Return what was recorded of a guest with this rundir; nothing if nothing was."""
    path = rundir / FILE
    return parse_trace(path.read_text(errors="replace")) if path.exists() else []


def parse_trace(text: str) -> list[FtraceLine]:
    """Return the lines of a trace, without its head."""
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        if match := _LINE.fullmatch(line):
            seconds, pid = float(match["seconds"]), int(match["pid"])
            lines.append(FtraceLine(task=match["task"], pid=pid, seconds=seconds, text=match["text"], number=number))
    return lines


def _begin(events: Mapping[str, str], functions: Sequence[str]) -> str:
    steps = [
        f"cd {_FOLDER} && {{ [ -e trace ] || mount -t tracefs tracefs . && cd {_FOLDER}; }}",
        f"echo 0 > tracing_on; echo > trace; echo mono > trace_clock; echo {_BUFFER_KIB} > buffer_size_kb",
    ]
    for event, condition in events.items():
        place = f"events/{event}"
        if condition:
            steps.append(f"[ ! -e {place} ] || echo {shlex.quote(condition)} > {place}/filter")
        steps.append(f"[ ! -e {place} ] || echo 1 > {place}/enable")
    if functions:
        steps.append("echo > set_ftrace_filter")
        steps += [f"echo {each} >> set_ftrace_filter 2>/dev/null || true" for each in functions]
        steps.append("echo function > current_tracer")
    return "; ".join([*steps, "echo 1 > tracing_on"])


def _end(events: Mapping[str, str]) -> str:
    off = [f"[ ! -e events/{event} ] || echo 0 > events/{event}/enable" for event in events]
    # a change of tracer empties the buffer
    steps = ["echo 0 > tracing_on", "gzip -c trace", *off, "echo nop > current_tracer"]
    return f"cd {_FOLDER} && {'; '.join(steps)}"

"""Timeline: what happened in a cell, from QMP, the guest's shell, its kernel log and its console, on the bed's clock.

QMP and shell lines carry wall seconds. A kernel record carries the kernel's own stamp only, so it stands where it
reached the bed (`clock.jsonl`), milliseconds after it was made. What was logged before the guest's shell spoke came in
one go: it is spread between the start and the first frame by its stamps. What a saved guest had logged before it was
saved has no place on this run's clock. The guest's time of a QMP line is read off between the frames around it.

A machine inside the machine has a record of its own, shown on a track of its own; so has what the guest's
kernel was traced doing.
"""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from testbed.campaign.record.evidence import read_lines
from testbed.guest.kernel_log import FILE as KERNEL_FILE
from testbed.guest.tracing import read_trace
from testbed.machine.console import FILE as CONSOLE_FILE
from testbed.machine.journal import CLOCK_FILE, MMIO_FILE, QMP_FILE, SHELL_FILE, JournalLine, read_journal
from testbed.machine.qmp import LOOKS
from testbed.model.errors import InputError
from testbed.model.guest_clock import GuestClock, Tick

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_RECORD = re.compile(r"<([0-7])>\[ {0,12}([0-9]{1,12}\.[0-9]{6})\] (.*)")
_STAMP = re.compile(r"\[ {0,12}([0-9]{1,12}\.[0-9]{6})\] ")
#: how many characters of a message are shown
_SHOWN = 300


class Track(enum.StrEnum):
    """Who speaks."""

    ACTION = "action"  #: what was done to the machine
    QMP = "qmp"
    GUEST = "guest"  #: its shell
    KERNEL = "kernel"
    CONSOLE = "console"  #: what the kernel log does not have
    MMIO = "mmio"  #: accesses to device registers, as QEMU saw them
    TRACE = "trace"  #: the kernel's ftrace
    LEVEL2 = "level 2"  #: a machine inside the machine


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the timeline."""

    wall: float | None  #: seconds since QEMU's start; None: before this run, in the life of the saved guest
    guest: float | None
    measured: bool  #: whether the guest said `guest` itself
    track: Track
    text: str
    evidence: str  #: where it stands
    seconds: float | None = None  #: wall seconds until it was answered
    answer: bool = False  #: the answer to an entry before it
    stimulus: bool = False
    level: int | None = None  #: syslog level of a kernel record


def read_timeline(rundir: Path) -> list[Entry]:
    """Return everything the rundir of a cell has, in the order of wall time; what was before the run comes first.

    Raises InputError if its journals are not what a run writes.
    """
    try:
        return _read(rundir)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise InputError(
            f"rundir {rundir}: its journals are damaged: {type(error).__name__}: {error}", hint="run the cell again"
        ) from None


def _read(rundir: Path) -> list[Entry]:
    qmp, shell = read_journal(rundir / QMP_FILE), read_journal(rundir / SHELL_FILE)
    arrivals = _arrivals(read_journal(rundir / CLOCK_FILE))
    clock = _clock(qmp, shell, arrivals)
    kernel = list(_kernel(read_lines(rundir / KERNEL_FILE), arrivals, clock))
    logged = {entry.text for entry in kernel}
    entries = [
        *kernel,
        *_console(read_lines(rundir / CONSOLE_FILE), logged, _started(qmp), clock),
        *_qmp(qmp, clock),
        *_shell(shell),
        *_mmio(read_journal(rundir / MMIO_FILE), clock),
        *_trace(rundir, clock),
        *(entry for line in shell if "inner" in line.message for entry in _inner(rundir, line.message["inner"], clock)),
    ]
    return sorted(entries, key=lambda entry: -1.0 if entry.wall is None else entry.wall)


@dataclass(frozen=True, kw_only=True)
class _Arrival:
    """Lines of kernel.log that came together."""

    wall: float
    guest: float
    first: int
    last: int


def _arrivals(lines: Sequence[JournalLine]) -> list[_Arrival]:
    arrivals = ((line.wall, line.message["kernel_log"]) for line in lines if "kernel_log" in line.message)
    return [
        _Arrival(wall=wall, guest=each["guest_seconds"], first=each["first"], last=each["last"])
        for wall, each in arrivals
    ]


def _started(qmp: Sequence[JournalLine]) -> float:
    """Return when the machine was let run."""
    return next((line.wall for line in qmp if line.message.get("command", {}).get("execute") == "cont"), 0.0)


def _clock(qmp: Sequence[JournalLine], shell: Sequence[JournalLine], arrivals: Sequence[_Arrival]) -> GuestClock:
    """Return the guest's clock: it starts with the machine, unless the guest was a saved one."""
    ticks = [Tick(wall=arrival.wall, guest=arrival.guest) for arrival in arrivals]
    for line in shell:
        answer = line.message.get("ended") or line.message.get("path") or {}
        if "guest_seconds" in answer:
            ticks.append(Tick(wall=line.wall, guest=answer["guest_seconds"]))
    return GuestClock(ticks if _resumed(arrivals) else [Tick(wall=_started(qmp), guest=0.0), *ticks])


def _resumed(arrivals: Sequence[_Arrival]) -> bool:
    """Return whether the guest was a saved one, whose earlier lines were there from the start."""
    return bool(arrivals) and arrivals[0].first > 1


def _kernel(lines: Sequence[str], arrivals: Sequence[_Arrival], clock: GuestClock) -> Iterator[Entry]:
    spoke = arrivals[0].guest if arrivals and not _resumed(arrivals) else 0.0
    came = {
        number: arrival
        for arrival in arrivals
        for number in range(max(arrival.first, 1), min(arrival.last, len(lines)) + 1)
    }
    for number, line in enumerate(lines, start=1):
        match = _RECORD.match(line)
        stamp = float(match[2]) if match else None
        arrival = came.get(number)
        wall = arrival.wall if arrival else None
        if arrival and stamp is not None and stamp < spoke:
            wall = min(arrival.wall, clock.wall(stamp))
        yield Entry(
            wall=wall,
            guest=stamp,
            measured=True,
            track=Track.KERNEL,
            text=match[3] if match else line,
            evidence=f"{KERNEL_FILE}:{number}",
            level=int(match[1]) if match else None,
        )


def _console(lines: Sequence[str], logged: set[str], started: float, clock: GuestClock) -> Iterator[Entry]:
    """Yield the lines that the kernel log does not have: firmware, init, and the last words of a guest that died."""
    stamp = None
    for number, line in enumerate(lines, start=1):
        match = _STAMP.match(line)
        stamp = float(match[1]) if match else stamp
        text = (line[match.end() :] if match else line).rstrip("\r")
        if text.strip() and text not in logged:
            yield Entry(
                wall=started if stamp is None else max(started, clock.wall(stamp)),
                guest=stamp,
                measured=match is not None,
                track=Track.CONSOLE,
                text=text,
                evidence=f"{CONSOLE_FILE}:{number}",
            )


def _qmp(lines: Sequence[JournalLine], clock: GuestClock) -> Iterator[Entry]:
    for index, line in enumerate(lines):
        kind, message = _message(line)
        name = str(message.get("execute", "")) if kind == "command" and isinstance(message, dict) else ""
        side = line.message.get("qemu", "")
        # one command at a time, so that the next answer of the same QEMU is its own
        answers = (each for each in lines[index + 1 :] if each.message.get("qemu", "") == side)
        answered_at = next((each.wall for each in answers if {"return", "error"} & set(each.message)), None)
        yield Entry(
            wall=line.wall,
            guest=clock.guest(line.wall),
            measured=False,
            track=Track.ACTION if name and not name.startswith(LOOKS) else Track.QMP,
            text=f"{side}: {_qmp_text(kind, message)}" if side else _qmp_text(kind, message),
            evidence=line.evidence,
            seconds=answered_at - line.wall if name and answered_at is not None else None,
            answer=kind in ("return", "error"),
        )


def _message(line: JournalLine) -> tuple[str, Any]:
    """Return a message and its kind."""
    return next(iter(line.message.items()), ("nothing", ""))


def _qmp_text(kind: str, message: Any) -> str:
    if kind == "command" and isinstance(message, dict):
        return f"{message.get('execute')} {_short(message.get('arguments', ''))}".rstrip()
    if kind == "event" and isinstance(message, dict):
        return f"event {message.get('event')} {_short(message.get('data', ''))}".rstrip()
    return f"{kind} {_short(message)}"


def _shell(lines: Sequence[JournalLine]) -> Iterator[Entry]:
    for index, line in enumerate(lines):
        kind, message = _message(line)
        fields: Mapping[str, Any] = message if isinstance(message, dict) else {}
        ends = (
            each for each in lines[index + 1 :] if each.message.get("ended", {}).get("command") == fields.get("command")
        )
        ended = next(ends, None) if kind == "started" else None
        yield Entry(
            wall=line.wall,
            guest=fields.get("guest_seconds"),
            # of a request it is the time of the frame before it
            measured=kind in ("ended", "path"),
            track=Track.ACTION if kind == "stimulus" else Track.GUEST,
            text=_shell_text(kind, fields) if fields else f"{kind} {_short(message)}",
            evidence=line.evidence,
            seconds=ended.wall - line.wall if ended else None,
            answer=kind == "ended",
            stimulus=kind == "stimulus",
        )


def _mmio(lines: Sequence[JournalLine], clock: GuestClock) -> Iterator[Entry]:
    for line in lines:
        (kind, message), *_ = line.message.items() or [("nothing", None)]
        fields: Mapping[str, Any] = message if isinstance(message, dict) else {}
        where = f"vCPU {fields.get('vcpu')}, {fields.get('region') or kind}"
        yield Entry(
            wall=line.wall,
            guest=clock.guest(line.wall),
            measured=False,
            track=Track.MMIO,
            text=_cut(f"{fields.get('text', kind)} ({where})"),
            evidence=line.evidence,
        )


def _trace(rundir: Path, clock: GuestClock) -> Iterator[Entry]:
    for line in read_trace(rundir):
        yield Entry(
            wall=clock.wall(line.seconds),
            guest=line.seconds,
            measured=True,
            track=Track.TRACE,
            text=_cut(f"{line.task}-{line.pid}: {line.text}"),
            evidence=line.evidence,
        )


def _inner(rundir: Path, begin: Mapping[str, Any], clock: GuestClock) -> Iterator[Entry]:
    """Yield what the machine inside did in this run; times are the outer guest's."""
    name, began = str(begin["rundir"]), float(begin["began"])
    for entry in read_timeline(rundir / name):
        if entry.wall is not None:
            wall = entry.wall + began
            yield replace(
                entry,
                wall=wall,
                guest=clock.guest(wall),
                measured=False,
                track=Track.LEVEL2,
                text=f"{entry.track}: {entry.text}",
                evidence=f"{name}/{entry.evidence}",
                stimulus=False,
            )


def _shell_text(kind: str, fields: Mapping[str, Any]) -> str:
    match kind:
        case "stimulus":
            return f"stimulus: {fields.get('request')}"
        case "started":
            return _cut(f"run: {fields.get('command')}")
        case "ended":
            output = str(fields.get("output", "")).strip()
            return _cut(f"status {fields.get('status')}: {fields.get('command')}" + (f"\n{output}" if output else ""))
        case "inner":
            return f"a machine inside this one: {fields.get('rundir')}"
        case "path":
            return f"{fields.get('path')} {'is there' if fields.get('exists') else 'is gone'}"
        case _:
            return f"{kind} {_short(fields)}"


def _short(value: Any) -> str:
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"

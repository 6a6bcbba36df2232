"""Lines of `trace-cmd report`, of ftrace's `trace` and `trace_pipe`, and of `perf script`."""

from __future__ import annotations

import re
from typing import NamedTuple

#: characters of a line that are read; the longest kvm event has some 300
LINE_LIMIT = 4096

# every repetition is bounded: no line can make the search slow; a thread's name has 15 characters (TASK_COMM_LEN)
_TID = r"[- ] {0,16}(?:(?P<process>[0-9]{1,10})/)?(?P<tid>[0-9]{1,10})"
_TGID = r"(?:\([ ]{0,8}(?P<tgid>[0-9]{1,10}|-{1,10})\)[ \t]{1,32})?"
# in brackets, or as in the latency format with the flags right behind it
_CPU = r"(?:\[(?P<cpu>[0-9]{1,6})\]|(?P<latency_cpu>[0-9]{1,4})(?=[a-zA-Z.#]))[ \t]{0,32}(?:[^\s:]{3,8}[ \t]{1,32})?"
_TIME = (
    r"(?P<time>[0-9]{1,20}(?:\.[0-9]{1,9})?)(?P<micros>us)?(?: ?[!+#*@$])? ?:[ \t]{1,64}"
    r"(?:\(\+?[0-9.]{1,24}\)[ \t]{1,64})?"
)
_TEXT = r":[ \t]{0,64}(?P<text>[^\r\n]*)"
_EVENT = re.compile(
    rf"[ \t]{{0,64}}(?P<comm>\S.{{0,15}}?){_TID}[ \t]{{1,32}}{_TGID}{_CPU}{_TIME}"
    rf"(?:[a-z][a-z0-9_]{{0,31}}:)?(?P<event>[a-z][a-z0-9_]{{0,63}}){_TEXT}",
    re.ASCII,
)
# perf script -F leaves out what it was not asked for: only kvm's own names tell such a line from prose
_BARE_EVENT = re.compile(
    rf"[ \t]{{0,64}}(?:(?P<comm>[^\s\[].{{0,15}}?)(?:{_TID})?[ \t]{{1,32}}{_TGID})?(?:{_CPU})?{_TIME}"
    rf"(?:[a-z][a-z0-9_]{{0,31}}:)?(?P<event>kvm_[a-z0-9_]{{1,60}}){_TEXT}",
    re.ASCII,
)
# ftrace: "CPU:3 [LOST 4242 EVENTS]"; trace-cmd: "CPU:3 [4242 EVENTS DROPPED]"; either without the number
_LOST = re.compile(r"CPU:([0-9]{1,6}) \[(?:LOST )?([0-9]{0,20}) ?EVENTS(?: DROPPED)?\]", re.ASCII)
# what stands between events: comments, trace-cmd's header, empty CPUs, buffer starts, call stacks
_FRAME = re.compile(
    r"\s{0,64}(?:#|version ?=|cpus ?=|CPU [0-9]{1,6} is empty|=> |\[trace-cmd\]|trace-cmd: "
    r"|[0-9a-f]{4,16} \S{1,200} \(|$)",
)
# how a name begins that is none, but a quote's mark or a line's number that were put before the thread's
_WRAPPED = re.compile(r"[>|\ufeff]|[0-9]{1,8}[:\t-]")
# names of values, and in an exit those behind whose value another value stands: where one ends a line, it was wrapped
_NAMES = frozenset(
    ("reason", "rip", "info", "info1", "info2", "address", "error_code", "gpa", "val", "len", "vcpu", "error")
)
_FIRST_NAMES = frozenset(("reason", "rip", "info", "info1"))
#: how files that are often taken for a report begin, what they are, and what makes a report of them
BINARIES = (
    (b"\x17\x08\x44tracing", "trace-cmd's binary trace.dat", "trace-cmd report -i {file} > trace.txt"),
    (b"PERFILE2", "perf's binary perf.data", "perf script -i {file} > trace.txt"),
)


class TraceLine(NamedTuple):
    """One event of a trace; a plain tuple, since a trace has millions."""

    number: int  #: its 1-based line
    comm: str  #: the thread's name; empty where the trace has lost it
    tid: int | None  #: None where perf script was not asked for it
    tgid: int | None  #: the process; only with ftrace's record-tgid, or perf's pid/tid
    cpu: int | None  #: of the host; None as with tid
    seconds: float | None  #: None if the trace's clock does not count seconds
    event: str
    text: str


class LostEvents(NamedTuple):
    """A gap in the events of one host CPU."""

    cpu: int
    events: int | None  #: None if the trace does not say


def parse_line(text: str, *, number: int) -> TraceLine | LostEvents | None:
    """Read one line; return None if it is neither an event nor a gap."""
    match = _EVENT.match(text) or _BARE_EVENT.match(text)
    if match is None:
        lost = _LOST.match(text)
        return LostEvents(cpu=int(lost[1]), events=int(lost[2]) if lost[2] else None) if lost else None
    comm, process, tid, tgid, cpu, latency_cpu, time, micros, event, rest = match.groups()
    if not tid and comm and comm.isdigit():  # perf was asked for the thread's number and not for its name
        comm, tid = "", comm[:10]
    process, cpu = process or tgid, cpu or latency_cpu
    return TraceLine(
        number=number,
        comm="" if comm is None or comm == "<...>" else comm.rstrip(),
        tid=int(tid) if tid else None,
        tgid=int(process) if process and process.isdigit() else None,
        cpu=int(cpu) if cpu else None,
        seconds=_seconds(time, micros=micros is not None),
        event=event,
        text=rest,
    )


def _seconds(time: str, *, micros: bool) -> float | None:
    """Return a time stamp in seconds; None if the trace's clock counts something else."""
    if micros:
        return float(time) / 1e6
    return float(time) if "." in time else None


def is_plain(line: TraceLine | LostEvents | None) -> bool:
    """Return whether a line is one of a trace with nothing put before it."""
    return line is not None and not (isinstance(line, TraceLine) and _WRAPPED.match(line.comm))


def is_cut(line: TraceLine) -> bool:
    """Return whether an event of kvm ends where more has to follow, as where an e-mail wrapped it."""
    if not line.event.startswith("kvm_"):
        return False
    words = line.text.rsplit(None, 2)
    if not words or words[-1] in _NAMES or words[-1].startswith("KVM_EXIT_"):
        return True
    return line.event == "kvm_exit" and len(words) > 1 and words[-2] in _FIRST_NAMES


def joined_line(line: TraceLine, rest: str) -> TraceLine:
    """Return an event with the rest of its text from the next line."""
    return line._replace(text=f"{line.text} {rest}".strip()[:LINE_LIMIT])


def is_frame(text: str) -> bool:
    """Return whether a trace may have this line between its events."""
    return _FRAME.match(text) is not None

"""Kernel log records, and the lines by which a kernel says that it is dying.

Records come from /dev/kmsg (Documentation/ABI/testing/dev-kmsg): `priority,sequence,microseconds,flags;text`, then
dictionary lines that begin with a blank. They carry every message whatever the loglevel of the console is.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

# bounded as the kernel's own numbers are: longer ones would not fit a float
_RECORD = re.compile(r"([0-9]{1,10}),([0-9]{1,20}),([0-9]{1,20}),([^;]*);(.*)", re.DOTALL)
_ESCAPES = re.compile(r"(?:\\x[0-9a-f]{2})+")


@dataclass(frozen=True, kw_only=True)
class LogRecord:
    """One kernel message."""

    line: int  #: its 1-based line in the file
    sequence: int
    seconds: float  #: guest seconds since boot, the kernel's own stamp
    level: int  #: syslog level, 0 (emergency) to 7 (debug)
    text: str
    file: str = "kernel.log"  #: what it stands in: a guest's log of record, or a customer's file

    @property
    def reference(self) -> str:
        """Return what a finding cites."""
        return f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"<{self.level}>[{self.seconds:12.6f}] {self.text}"


def parse_record(text: str, *, line: int) -> LogRecord | None:
    """Read the first line of one /dev/kmsg record; return None for a dictionary line or noise."""
    match = _RECORD.fullmatch(text)
    if not match:
        return None
    priority, sequence, micros, _, message = match.groups()
    return LogRecord(
        line=line,
        sequence=int(sequence),
        seconds=int(micros) / 1e6,
        level=int(priority) & 7,
        text=_ESCAPES.sub(_unescape, message),
    )


def _unescape(escapes: re.Match[str]) -> str:
    """Return the text of a run of `\\xNN`, each one byte of UTF-8."""
    return bytes.fromhex(escapes[0].replace("\\x", "")).decode("utf-8", "replace")


class Crash(enum.Enum):
    """How a guest reports that it is in trouble."""

    PANIC = "panic"
    OOPS = "oops"
    LOCKUP = "lockup"
    RCU_STALL = "rcu stall"
    HUNG_TASK = "hung task"
    RESET = "reset"  #: QEMU saw the guest reset itself
    POWER_OFF = "power off"  #: QEMU saw the guest power itself off
    SILENCE = "silence"  #: the guest runs, and its shell no longer answers


#: after these nothing in the guest answers any more
FINAL = (Crash.PANIC, Crash.RESET, Crash.POWER_OFF)


#: the words of Linux 3.10 to 7.1: kernel/panic.c, arch/x86/mm/fault.c, arch/x86/kernel/{traps,dumpstack}.c,
#: lib/bug.c, kernel/watchdog.c, kernel/rcu/tree_stall.h, kernel/hung_task.c
_CRASHES = (
    (Crash.PANIC, re.compile(r"Kernel panic - not syncing: .*")),
    (
        Crash.OOPS,
        re.compile(r"BUG: unable to handle .*|BUG: kernel NULL pointer dereference.*|kernel BUG at .*"),
    ),
    (Crash.OOPS, re.compile(r"general protection fault.*(?:SMP|PREEMPT|NOPTI|\[#\d+\]).*|Oops: .*")),
    # any other trap the kernel dies of, up to 6.9: "divide error: 0000 [#1] SMP"; later ones begin with "Oops: "
    (Crash.OOPS, re.compile(r"[a-z][a-z -]{0,40}: [0-9a-f]{4} \[#\d+\].*")),
    (Crash.LOCKUP, re.compile(r"(?:watchdog: )?BUG: soft lockup - .*|Watchdog detected hard LOCKUP.*")),
    (
        Crash.RCU_STALL,
        re.compile(r"(?:rcu: )?INFO: \w+ (?:self-detected stall|detected (?:expedited )?stalls) on .*"),
    ),
    (Crash.HUNG_TASK, re.compile(r"INFO: task .* blocked for more than \d+ seconds.*")),
)


def find_crash(text: str) -> tuple[Crash, str] | None:
    """Return how the guest crashed, and its message, if this log text says so."""
    for crash, pattern in _CRASHES:
        match = pattern.search(text)
        if match:
            return crash, match[0].strip()
    return None

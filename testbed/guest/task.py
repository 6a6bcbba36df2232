"""A process of the guest: its state and the time it has had, from /proc/PID/stat.

Source: proc(5), /proc/pid/stat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.files import show

if TYPE_CHECKING:
    from testbed.guest.guest import Guest

#: USER_HZ of x86
_TICKS = 100
_STATE, _USER, _SYSTEM = 0, 11, 12


@dataclass(frozen=True, kw_only=True)
class Task:
    """A process at one moment."""

    pid: int
    name: str
    state: str  #: R running, S sleeping, D uninterruptible, …
    user_seconds: float
    system_seconds: float
    evidence: str  #: the answer's line in shell.jsonl


async def find_task(guest: Guest, name: str) -> Task | None:
    """Return the first process of this name (15 characters of it); None if there is none."""
    shown = await show(guest, "/proc/[0-9]*/stat")
    tasks = (
        parse_stat(content.decode("utf-8", "replace"), evidence=shown.evidence) for content in shown.files.values()
    )
    return next((task for task in tasks if task and task.name == name[:15]), None)


def parse_stat(text: str, *, evidence: str) -> Task | None:
    """Return the process that a `stat` file tells of; None if it is none."""
    # a name may hold blanks and parentheses: the last one ends it
    head, _, rest = text.rpartition(") ")
    pid, _, name = head.partition(" (")
    fields = rest.split()
    if not pid.isdecimal() or len(fields) <= _SYSTEM:
        return None
    return Task(
        pid=int(pid),
        name=name,
        state=fields[_STATE],
        user_seconds=int(fields[_USER]) / _TICKS,
        system_seconds=int(fields[_SYSTEM]) / _TICKS,
        evidence=evidence,
    )

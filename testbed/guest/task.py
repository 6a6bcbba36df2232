"""A process of the guest: its state, the time it has had and where it stands in the kernel.

Source: proc(5), /proc/pid/stat and /proc/pid/stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.files import shown_by
from testbed.model.errors import Standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.guest.guest import Guest
    from testbed.guest.shell import Shell

#: USER_HZ of x86
_TICKS = 100
_STATE, _SESSION, _USER, _SYSTEM = 0, 3, 11, 12
_STATS, _STACKS = "/proc/[0-9]*/stat", "/proc/[0-9]*/stack"
_NUMBER = re.compile(r"[0-9]{1,20}")
#: guest seconds between two looks at a process that may stand still
_APART = 2.0
_STATES = {"R": "running", "S": "asleep", "D": "in uninterruptible sleep", "T": "stopped", "Z": "a zombie"}
#: where a process waits for another to let go
_LOCK = re.compile("mutex_lock|rwsem_down|semaphore|__down")
#: of other processes, whose stacks are read
_MOST_WAITING = 4
_FUNCTION = re.compile(r"\] ([^+\s]+)\+0x")


@dataclass(frozen=True, kw_only=True)
class Task:
    """A process at one moment."""

    pid: int
    name: str
    state: str  #: R running, S sleeping, D uninterruptible, …
    session: int  #: the process that began its session
    user_seconds: float
    system_seconds: float
    evidence: str  #: the answer's line in shell.jsonl

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name}) is {_STATES.get(self.state, self.state)} ({self.state})"


async def find_task(guest: Guest, name: str) -> Task | None:
    """Return the first process of this name (15 characters of it); None if there is none."""
    return next(iter(await _tasks(guest.shell, lambda task: task.name == name[:15])), None)


async def still_task(shell: Shell, session: int) -> Task | None:
    """Return the process of a session that keeps it from ending; None if one of them gets on, or all have ended.

    None gets on if they are the same processes in the same states after two guest seconds, and had no time in them. The
    one that cannot even be killed comes first, else the youngest.
    """
    before = await _tasks(shell, lambda task: task.session == session)
    await shell.sleep(_APART)
    tasks = await _tasks(shell, lambda task: task.session == session)
    if not tasks or [_progress(task) for task in before] != [_progress(task) for task in tasks]:
        return None
    return max(tasks, key=lambda task: (task.state == "D", task.pid))


async def waiting_tasks(shell: Shell, besides: Task) -> list[Standing]:
    """Return the other processes in uninterruptible sleep, those that wait for no lock first: one may be its holder."""
    tasks = await _tasks(shell, lambda task: task.state == "D" and task.pid != besides.pid)
    found = []
    for task in tasks[:_MOST_WAITING]:
        stack, evidence = await read_stack(shell, task)
        found.append(Standing(task=str(task), stack=stack, evidence=evidence))
    return sorted(found, key=lambda each: any(map(_LOCK.search, each.stack)))


async def standing_tasks(shell: Shell) -> dict[int, Standing]:
    """Return where every process that is in the kernel stands, by its number."""
    shown = await shown_by(shell, _STATS, _STACKS)
    found = {}
    for path, text in shown.files.items():
        task = parse_stat(text.decode("utf-8", "replace"), evidence=shown.evidence) if path.endswith("/stat") else None
        stack = tuple(_FUNCTION.findall(shown.text(f"/proc/{task.pid}/stack"))) if task else ()
        if task and stack:
            found[task.pid] = Standing(task=str(task), stack=stack, evidence=shown.evidence)
    return found


async def find_process(shell: Shell, pid: int) -> Task | None:
    """Return the process of this number, which is also that of the session it began; None if it has ended."""
    return next(iter(await _tasks(shell, lambda task: task.pid == pid)), None)


async def read_stack(shell: Shell, task: Task) -> tuple[tuple[str, ...], str]:
    """Return the kernel functions that a process stands in, innermost first, and where that is recorded."""
    path = f"/proc/{task.pid}/stack"
    shown = await shown_by(shell, path)
    return tuple(_FUNCTION.findall(shown.text(path))), shown.evidence


def parse_stat(text: str, *, evidence: str) -> Task | None:
    """Return the process that a `stat` file tells of; None if it is none."""
    # a name may hold blanks and parentheses: the last one ends it
    head, _, rest = text.rpartition(") ")
    pid, _, name = head.partition(" (")
    fields = rest.split()
    if len(fields) <= _SYSTEM:
        return None
    words = (pid, *(fields[each] for each in (_SESSION, _USER, _SYSTEM)))
    if not all(map(_NUMBER.fullmatch, words)):
        return None
    number, session, user, system = map(int, words)
    return Task(
        pid=number,
        name=name,
        state=fields[_STATE],
        session=session,
        user_seconds=user / _TICKS,
        system_seconds=system / _TICKS,
        evidence=evidence,
    )


def _progress(task: Task) -> tuple[int, str, float, float]:
    return task.pid, task.state, task.user_seconds, task.system_seconds


async def _tasks(shell: Shell, wanted: Callable[[Task], bool]) -> list[Task]:
    shown = await shown_by(shell, _STATS)
    tasks = (parse_stat(text.decode("utf-8", "replace"), evidence=shown.evidence) for text in shown.files.values())
    return sorted((task for task in tasks if task and wanted(task)), key=lambda task: task.pid)

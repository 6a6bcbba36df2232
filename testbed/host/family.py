"""Family: a program of ours with all that it starts, ended as a whole, whatever ends the test bed.

A QEMU may stand behind a wrapper script. The parent-death signal reaches the script alone, and what it started in the
background, in a process group or session of its own even, would go on. So each program gets a variable that what it
starts inherits. Once the program is to end, all processes with that variable end.

A guard does the same for a test bed that has no time left to do so, because it was killed: it waits on a pipe that only
the test bed holds, so that the kernel tells it. A PID namespace would need root or user namespaces, and make QEMU
process 1 of it, whom `abort()` does not end as it ends others (pid_namespaces(7)).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from testbed.host.containment import own_user
from testbed.host.packages import find_program, search_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

VARIABLE = "TESTBED_FAMILY"
#: wall seconds in which killed processes must be gone: one may be in the kernel, which frees its memory first, and on a
#: host with 24 guests a core that was seen to take more than 5 s
END_SECONDS = 60.0

#: nothing until the pipe on standard input closes; then kill until none is found, for one may be starting another.
#: It looks as QEMU's user as well: root of a container that lacks CAP_SYS_PTRACE may not read other users' environments
_GUARD = """
trap '' INT TERM HUP QUIT
while read -r _; do :; done
look() {
    grep -ls -e "$1" /proc/[0-9]*/environ
    [ -z "$2" ] || setpriv --reuid="$2" --regid="$2" --clear-groups -- grep -ls -e "$1" /proc/[0-9]*/environ
}
tries=100
while found=$(look "$1" "$2"); [ -n "$found" ] && [ $tries -gt 0 ]; do
    for file in $found; do
        pid=${file#/proc/}
        kill -KILL "${pid%/environ}" 2>/dev/null
    done
    tries=$((tries - 1))
    sleep 0.05
done
"""


class Family:
    """The processes of one program of ours; leaving its block ends them."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self._mark = f"{VARIABLE}={_guarded_bed()}.{next(self._numbers)}."

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment to start the program with."""
        name, _, value = self._mark.partition("=")
        return {**os.environ, name: value}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Kill them all, and wait until they are gone."""
        limit, pause = time.monotonic() + END_SECONDS, 0.001
        # nobody tells of an orphan's end; and one may have been starting another
        while (found := list(self._members())) and time.monotonic() < limit:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(pause)
            pause = min(2 * pause, 0.1)

    def _members(self) -> Iterator[int]:
        mark = self._mark.encode()
        for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 (half the time of iterdir)
            # that of another user cannot be read, and cannot be ours
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{name}/environ").read_bytes():
                    yield int(name)


def run_family(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run a program to its end as `subprocess.run` does; nothing that it started is left.

    `env` adds to the environment. Raises what `subprocess.run` raises, and KeyboardInterrupt within `ended_runs`.
    """
    added = options.pop("env", {})
    with Family() as family, _listed(family):
        return subprocess.run(command, check=False, env={**family.environment, **added}, **options)


@contextlib.contextmanager
def ended_runs() -> Iterator[Callable[[], None]]:
    """Let `run_family` start nothing in any thread; yield what ends those that run, of which one may just be starting.

    A thread cannot be cancelled: what it waits for has to end.
    """
    _ending.set()
    try:
        yield _end_runs
    finally:
        _ending.clear()


def _end_runs() -> None:
    for family in tuple(_runs):
        family.end()


@contextlib.contextmanager
def _listed(family: Family) -> Iterator[None]:
    """Have a family ended by `ended_runs` as long as this is entered; raise KeyboardInterrupt if it was."""
    _runs.add(family)
    try:
        if _ending.is_set():
            raise KeyboardInterrupt
        yield
        if _ending.is_set():
            raise KeyboardInterrupt
    finally:
        _runs.discard(family)


#: what `run_family` runs, in whatever thread, and whether it is to end
_runs: set[Family] = set()
_ending = threading.Event()
_lock = threading.Lock()
#: what marks the families of this process: a forked one is another test bed
_beds: dict[int, str] = {}


def _guarded_bed() -> str:
    """Return what marks this test bed's families, with a guard over it."""
    with _lock:
        pid = os.getpid()
        if pid not in _beds:
            _beds[pid] = secrets.token_hex(8)
            _start_guard(_beds[pid])
        return _beds[pid]


def _start_guard(bed: str) -> None:
    """Start the guard in a session of its own, so that what ends the test bed's does not reach it."""
    # the test bed never closes its end of the pipe: the kernel does
    reading, _ = os.pipe()
    shell = find_program("sh") or "/bin/sh"
    null = [(os.POSIX_SPAWN_OPEN, output, os.devnull, os.O_WRONLY, 0) for output in (1, 2)]
    os.posix_spawn(
        shell,
        [shell, "-c", _GUARD, "guard", f"{VARIABLE}={bed}[.]", str(own_user() or "")],
        {"PATH": search_path(), "LC_ALL": "C"},
        file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0), *null],
        setsid=True,
    )
    os.close(reading)

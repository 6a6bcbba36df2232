"""End real runs at random moments, in every way a run can be ended: `python -m tests.faults.orphans KILLS`.

After each nothing of it may be left but its rundir, which can be read and says that the run was ended; what a SIGKILL
leaves in the temporary folder goes with the next run. `make orphans KILLS=100` does a hundred.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect

from tests.qemu.conftest import processes_naming

if TYPE_CHECKING:
    from collections.abc import Callable

#: wall seconds in which whatever was ended must be gone
PATIENCE = 60.0
ENDS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL", "closed terminal")
#: a cell with a boot of its own, and a bisect with several
COMMANDS = {
    "run": ["run", "disk-present", "--machine", "q35", "--fresh"],
    "bisect": ["bisect", "disk-unplug", "-m", "q35", "-p", "hotplug=native", "--cmdline", "quiet pcie_aspm=off"],
    "boot": ["boot", "q35"],
}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that was ended, and what was wrong after it."""

    command: str
    by: str
    after: float  #: wall seconds
    problems: tuple[str, ...]


def end_one(folder: Path, *, command: str, by: str, after: float) -> Ended:
    """Start a command in an empty folder, end it, and look at what is left."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    child = pexpect.spawn(
        sys.executable,
        ["-m", "testbed", *COMMANDS[command]],
        cwd=folder,
        env={**environment, "TMPDIR": str(temporary), "TERM": "dumb", "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    pid = child.pid or 0
    end = time.monotonic() + after
    while time.monotonic() < end and child.isalive():
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            child.read_nonblocking(65536, timeout=max(0.01, min(0.2, end - time.monotonic())))
    if by == "closed terminal":
        os.close(child.child_fd)
    elif child.isalive():
        child.kill(signal.Signals[by])
    gone = _until(lambda: _is_gone(pid))
    problems = [] if gone else [f"it still runs after {PATIENCE:.0f} s"]
    if not gone:
        os.kill(pid, signal.SIGKILL)
        _until(lambda: _is_gone(pid))
    problems += _left(folder, killed=by == "SIGKILL")
    return Ended(command=command, by=by, after=after, problems=tuple(problems))


def _left(folder: Path, *, killed: bool) -> list[str]:
    problems = []
    if not _until(lambda: not processes_naming(f"{folder}/")):
        problems.append(f"processes are left: {processes_naming(f'{folder}/')}")
    if not killed and (files := list((folder / "tmp").iterdir())):
        problems.append(f"temporary files are left: {files}")
    for begun in folder.glob("testbed-runs/*"):
        told = subprocess.run(
            [sys.executable, "-m", "testbed", "report", str(begun)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if told.returncode not in (0, 1, 2, 125, 128) or "Traceback" in told.stderr:
            problems.append(f"rundir {begun.name} cannot be read: {told.stderr[-200:]}")
    return problems


def next_run(folder: Path) -> list[str]:
    """Return what is wrong with a run after all that were ended: it works, and has tidied up after them."""
    environment = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    done = subprocess.run(
        [sys.executable, "-m", "testbed", *COMMANDS["run"]],
        cwd=folder,
        env={**environment, "TMPDIR": str(folder / "tmp")},
        capture_output=True,
        text=True,
        check=False,
    )
    problems = [] if done.returncode == 0 else [f"the next run exits with {done.returncode}: {done.stderr[-300:]}"]
    if left := [path.name for path in (folder / "tmp").glob("testbed-*")]:
        problems.append(f"the next run left {left}")
    return problems


def _until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


def _is_gone(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        ended, _ = os.waitpid(pid, os.WNOHANG)
        return ended == pid
    return True


def main(kills: int, seed: int, longest: float) -> int:
    """End so many runs; print a line for each, and return the exit status."""
    chance = random.Random(seed)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="orphans-") as name:
        for number in range(kills):
            folder = Path(name, str(number))
            folder.mkdir()
            command, by = chance.choice([*COMMANDS]), chance.choice(ENDS)
            ended = end_one(folder, command=command, by=by, after=chance.uniform(0, longest))
            problems = [*ended.problems, *(next_run(folder) if by == "SIGKILL" else [])]
            print(
                f"{number + 1}/{kills} {command} {by} after {ended.after:.1f} s: {'; '.join(problems) or 'clean'}",
                flush=True,
            )
            found[by] += bool(problems)
    print(f"{kills} ended, seed {seed}, {found.total()} with something left: {dict(found)}")
    return 1 if found.total() else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else int(time.time()), 12.0))

"""End real runs at random moments, in every way a run can be ended: `python -m tests.faults.orphans KILLS`.

After each nothing of it may be left but its rundir, which can be read and says that the run was ended; what a SIGKILL
leaves in the temporary folder goes with the next run. A command that was done before its moment came was not ended: it
does not count, and from then on moments are drawn from the time it took. `make orphans KILLS=100` does a hundred.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect

from testbed.host.qemu_prefix import PROGRAM
from testbed.image.store import remove_image
from tests.disks import mbr_disk, sha256
from tests.qemu.conftest import processes_naming
from tests.signals import heed_signals
from tests.tiny_system import tiny_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: wall seconds in which whatever was ended must be gone, not counting those in which a busy host gave it no CPU
PATIENCE = 60.0
#: wall seconds in which what a command needs beside it must be there, on a host as busy as may be
_PREPARED = 600.0
ENDS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL", "closed terminal")
#: in a folder of its own for each run, so that nobody has looked into it before
DISK = "customer.raw"
#: a cell with a boot of its own, a bisect with several, a machine inside a machine
COMMANDS = {
    "run": ["testbed", "run", "disk-present", "--machine", "q35", "--fresh"],
    "bisect": ["testbed", "bisect", "disk-unplug", "-m", "q35", "-p", "hotplug=native", "--cmdline", "a pcie_aspm=off"],
    "boot": ["testbed", "boot", "q35"],
    "nested": [
        *("testbed", "run", "vm-survives-error", "-m", "level1", "--image", "level1", "--qemu", "any"),
        *("--cmdline", "intel_iommu=on iommu=pt no_timer_check nohz=off highres=off", "-s", "passed=none"),
    ],
    # in real time, so that it waits for half a minute in the second of its two QEMUs
    "migration": [
        *("testbed", "run", "disk-unplug", "-m", "q35", "-p", "hotplug=native", "--cmdline", "pcie_aspm=off"),
        *("-s", "migrate=pending", "--time", "real"),
    ],
    "matrix": ["testbed", "matrix", "disk-unplug", "-m", "q35", "-m", "i440fx", "--cmdline", "", "--cmdline", "quiet"],
    "atlas": ["testbed", "atlas", "ghost-disk", "--no-fetch", "--qemu", PROGRAM, "--fresh"],
    "reader": ["testbed", "image", "show", f"disk:{DISK}"],
    "whole": [
        *("testbed", "run", "disk-present", "--fresh", "--whole", "--image", f"disk:{DISK}"),
        *("--cmdline", "init=/bin/init"),
    ],
}
#: `run` with a QEMU that stands behind a script, in a session of its own
WRAPPED = "wrapped"
#: what is ended is a worker of a cluster, while a client has a matrix run there
WORKER = "worker"
#: wall seconds in which one is ended, until it is seen to take less
_LONGEST = 40.0
#: a session and a worker do not end by themselves: these are the seconds in which they have something to do
_AT_WORK = {"boot": 10.0, WORKER: 30.0}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A run that was ended, and what was wrong after it."""

    command: str
    by: str
    after: float  #: wall seconds
    qemus: int  #: that ran at that moment
    #: it was done before anybody ended it, in this time
    alone: bool
    problems: tuple[str, ...]

    def __str__(self) -> str:
        state = "done by itself" if self.alone else f"{self.qemus} QEMUs"
        return f"{self.command} {self.by} after {self.after:.1f} s, {state}: {'; '.join(self.problems) or 'clean'}"


def end_one(folder: Path, *, command: str, by: str, after: float) -> Ended:
    """Start a command in an empty folder, end it, and look at what is left."""
    (folder / "tmp").mkdir(exist_ok=True)
    with _customers_disk(folder, command) as changed:
        with _company(folder, command) as words:
            moment = _end(folder, words, by=by, after=after)
        problems = [*moment.problems, *_left(folder, killed=is_kill(command, by)), *changed()]
    return Ended(
        command=command, by=by, after=moment.after, qemus=moment.qemus, alone=moment.alone, problems=tuple(problems)
    )


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """When and how a command came to its end; the fields are those of Ended."""

    after: float
    qemus: int
    alone: bool
    problems: tuple[str, ...] = ()


def is_kill(command: str, by: str) -> bool:
    """Return whether the command has no chance to tidy up: Dask's own process does not heed a terminal that goes."""
    return by == "SIGKILL" or (command == WORKER and by in ("SIGHUP", "closed terminal"))


def _end(folder: Path, words: list[str], *, by: str, after: float) -> _Moment:
    child = pexpect.spawn(sys.executable, ["-m", *words], cwd=folder, env=_environment(folder), preexec_fn=heed_signals)
    pid = child.pid or 0
    begin = time.monotonic()
    end = begin + after
    while time.monotonic() < end and child.isalive():
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            child.read_nonblocking(65536, timeout=max(0.01, min(0.2, end - time.monotonic())))
    passed = time.monotonic() - begin
    if not child.isalive():
        return _Moment(after=passed, qemus=0, alone=True)
    qemus = len([pid for pid in _processes_of(folder) if _is_qemu(pid)])
    if by == "closed terminal":
        os.close(child.child_fd)
    else:
        child.kill(signal.Signals[by])
    if _until(lambda: _is_gone(pid), folder=folder):
        return _Moment(after=passed, qemus=qemus, alone=False)
    os.kill(pid, signal.SIGKILL)
    _until(lambda: _is_gone(pid))
    return _Moment(after=passed, qemus=qemus, alone=False, problems=(f"it still runs after {PATIENCE:.0f} s",))


@contextlib.contextmanager
def _customers_disk(folder: Path, command: str) -> Iterator[Callable[[], list[str]]]:
    """Put a disk into the folder, if the command takes one; yield what finds it changed."""
    if not any(DISK in word for word in COMMANDS.get(command, ())):
        yield list
        return
    disk = mbr_disk(folder / DISK, [tiny_root(folder)])
    before = sha256(disk)
    try:
        yield lambda: [] if sha256(disk) == before else ["the disk was written to"]
    finally:
        for name in (f"disk:{disk}", f"whole@disk:{disk}"):
            remove_image(name)


@contextlib.contextmanager
def _company(folder: Path, command: str) -> Iterator[list[str]]:
    """Yield the module to be ended with its arguments, with what it needs beside it."""
    if command == WRAPPED:
        yield [*COMMANDS["run"], "--qemu", str(_wrapper(folder))]
        return
    if command != WORKER:
        yield COMMANDS[command]
        return
    file = folder / "scheduler.json"
    places = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
    with contextlib.ExitStack() as stack:
        _start(stack, folder, "dask", "scheduler", *places, "--scheduler-file", str(file))
        if not _until(lambda: file.is_file() and bool(file.read_text()), seconds=_PREPARED):
            raise RuntimeError("the scheduler does not start")
        address = str(json.loads(file.read_text())["address"])
        _start(stack, folder, *COMMANDS["matrix"], "--workers", f"dask:{address}")
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder / "scratch"))
        yield ["dask", "worker", address, *options]


def _wrapper(folder: Path) -> Path:
    script = folder / "wrapped-qemu"
    script.write_text(f'#!/bin/sh\nexec 3<&0\nsetsid {shutil.which(PROGRAM)} "$@" <&3 &\nwait\n')
    script.chmod(0o755)
    return script


def _start(stack: contextlib.ExitStack, folder: Path, *words: str) -> None:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=folder, stdout=log, stderr=log, env=_environment(folder)
        )
    stack.callback(process.wait)
    stack.callback(process.terminate)


def _environment(folder: Path) -> dict[str, str]:
    """Return the environment of what is ended: everything that it leaves is found in the folder."""
    inherited = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    places = {"TMPDIR": str(folder / "tmp"), "TESTBED_SNAPSHOTS": str(folder / "snapshots")}
    return {**inherited, **places, "TERM": "dumb", "PYTHONPATH": str(Path(__file__).parents[2])}


def _left(folder: Path, *, killed: bool) -> list[str]:
    problems = []
    if not _until(lambda: not _processes_of(folder), folder=folder):
        problems.append(f"processes are left: {_processes_of(folder)}")
    # a scheduler of Dask's leaves its own folder
    if not killed and (files := [path for path in (folder / "tmp").iterdir() if "dask" not in path.name]):
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


def _is_qemu(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().startswith("qemu")
    return False


def _processes_of(folder: Path) -> set[int]:
    """Return the processes that name the folder, or that work in it: one that QEMU is asked with names nothing."""
    found = set(processes_naming(f"{folder}/"))
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder:
                found.add(int(process.name))
    return found


def next_run(folder: Path) -> list[str]:
    """Return what is wrong with a run after all that were ended: it works, and has tidied up after them."""
    done = subprocess.run(
        [sys.executable, "-m", *COMMANDS["run"]],
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    problems = [] if done.returncode == 0 else [f"the next run exits with {done.returncode}: {done.stderr[-300:]}"]
    if left := [path.name for path in (folder / "tmp").glob("testbed-*")]:
        problems.append(f"the next run left {left}")
    return problems


def _until(true: Callable[[], bool], *, seconds: float = PATIENCE, folder: Path | None = None) -> bool:
    """Wait for something to be so; processes of a folder have these seconds, and those in which they had no CPU."""
    starved = _starved(folder)
    end = time.monotonic() + seconds
    while time.monotonic() < end or time.monotonic() < end + _starved(folder) - starved:
        if true():
            return True
        time.sleep(0.02)
    return False


def _starved(folder: Path | None) -> float:
    """Return the seconds that the process of a folder worst off has waited for a CPU."""
    waits = [0]
    for pid in _processes_of(folder) if folder else ():
        with contextlib.suppress(OSError, IndexError):
            waits.append(int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]))
    return max(waits) / 1e9


def _is_gone(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        ended, _ = os.waitpid(pid, os.WNOHANG)
        return ended == pid
    return True


def main(kills: int, seed: int) -> int:
    """End so many runs; print a line for each, a table of them, and return the exit status."""
    chance = random.Random(seed)
    longest = dict.fromkeys([*COMMANDS, WRAPPED, WORKER], _LONGEST) | _AT_WORK
    ended: list[Ended] = []
    while len(ended) < kills:
        # each command as often as the others
        command, by = [*longest][len(ended) % len(longest)], chance.choice(ENDS)
        one = _end_in_a_folder(command=command, by=by, after=chance.uniform(0, longest[command]))
        print(f"{len(ended) + 1}/{kills} {one}", flush=True)
        if one.alone and not one.problems:
            longest[command] = min(longest[command], one.after)
        else:
            ended.append(one)
    for command in longest:
        mine = [one for one in ended if one.command == command]
        running = Counter(one.qemus for one in mine)
        shown = ", ".join(f"{times} with {count} QEMUs" for count, times in sorted(running.items()))
        print(f"{command}: {len(mine)} ended within {longest[command]:.0f} s: {shown}")
    found = Counter(one.by for one in ended if one.problems)
    print(f"{kills} ended, seed {seed}, {found.total()} with something left: {dict(found)}")
    return 1 if found else 0


def _end_in_a_folder(*, command: str, by: str, after: float) -> Ended:
    """End one in a folder of its own, with the run that tidies up after a kill; the folder stays if all is not well."""
    folder = Path(tempfile.mkdtemp(prefix="orphans-"))
    one = end_one(folder, command=command, by=by, after=after)
    if is_kill(command, by) and not one.alone:
        one = replace(one, problems=(*one.problems, *next_run(folder)))
    if one.problems:
        return replace(one, problems=(*one.problems, f"see {folder}"))
    shutil.rmtree(folder)
    return one


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else int(time.time())))

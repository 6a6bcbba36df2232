"""What a program of ours started ends with it, and with a test bed that is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.host.family import Family, run_family
from tests.signals import heed_signals
from tests.waiting import eventually

#: how a wrapper script may leave a program behind: in its own group, or in a session of its own
WRAPPERS = {"background": "sleep 1000 & echo $! >child; wait", "session": "setsid sleep 1000 & echo $! >child; wait"}

INTERRUPTED = """
import asyncio, pathlib, sys, typer
from testbed.cli.frame import CommandFrame
from testbed.host.family import run_family
def prepare():
    print("begun", flush=True)
    run_family(["sleep", "1000"])
    print("went on", flush=True)
try:
    CommandFrame(pathlib.Path(sys.argv[1])).run(asyncio.to_thread(prepare))
except typer.Exit as end:
    sys.exit(end.exit_code)
"""

BED = """
import subprocess, sys
from testbed.host.family import Family
family = Family()
program = subprocess.Popen(["sh", "-c", sys.argv[1]], env=family.environment)
program.wait()
"""


def lives(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:  # noqa: PTH123
        return bool(file.read())  # a zombie has none
    return False


def child(folder: Path) -> int:
    """Return the process that a wrapper left behind, once it runs."""
    file = folder / "child"
    assert eventually(lambda: file.is_file() and file.read_text())
    pid = int(file.read_text())
    assert eventually(lambda: lives(pid)), "in the midst of exec a process has no command line"
    return pid


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrappers_child_ends_with_the_time_a_program_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapper: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(subprocess.TimeoutExpired):
        run_family(["sh", "-c", WRAPPERS[wrapper]], timeout=0.5, capture_output=True)
    assert not lives(int((tmp_path / "child").read_text()))


def test_a_child_ends_though_its_wrapper_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_family(["sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $! >child"], capture_output=True)
    assert done.returncode == 0
    assert not lives(int((tmp_path / "child").read_text()))


def test_one_family_ends_and_another_goes_on() -> None:
    with Family() as one, Family() as other:
        first = subprocess.Popen(["sleep", "1000"], env=one.environment)
        second = subprocess.Popen(["sleep", "1000"], env=other.environment)
        one.end()
        assert first.wait() == -signal.SIGKILL
        assert second.poll() is None
    assert second.wait() == -signal.SIGKILL


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_bed_that_is_killed_leaves_no_wrappers_child(tmp_path: Path, wrapper: str) -> None:
    with subprocess.Popen([sys.executable, "-c", BED, WRAPPERS[wrapper]], cwd=tmp_path) as bed:
        try:
            left = child(tmp_path)
        finally:
            bed.kill()
    assert eventually(lambda: not lives(left))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives QEMU a user of its own")
def test_so_it_is_where_root_may_not_look_into_other_users_processes(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    # each of the three lets a process read another user's environment
    dropped = ",".join(f"-{each}" for each in ("sys_ptrace", "perfmon", "sys_admin"))
    blind = ("setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}", "--")
    code = BED.replace('["sh"', '[*OTHER, "sh"').replace(
        "family = Family()",
        "from testbed.host.containment import own_user\nfamily = Family()\n"
        'OTHER = ["setpriv", f"--reuid={own_user()}", f"--regid={own_user()}", "--clear-groups"]',
    )
    with subprocess.Popen([*blind, sys.executable, "-c", code, WRAPPERS["session"]], cwd=tmp_path) as bed:
        try:
            left = child(tmp_path)
            reading = [*blind, "head", "-c", "1", f"/proc/{left}/environ"]
            assert subprocess.run(reading, capture_output=True, check=False).returncode != 0
        finally:
            bed.kill()
    assert eventually(lambda: not lives(left))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_a_thread_runs_ends_with_a_command_that_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """A disk is read, and a cell prepared, in a thread, which nothing can cancel."""
    words = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_signals,  # noqa: PLW1509 (no thread of the tests forks)
    ) as bed:
        assert bed.stdout
        assert bed.stdout.readline() == b"begun\n"
        eventually(lambda: processes_in(bed.pid, "sleep"))
        bed.send_signal(number)
        try:
            said, told = bed.communicate(timeout=20)
        finally:
            bed.kill()
    assert said == b""
    assert (bed.returncode, told) == (130, b"interrupted: all machines ended\n")


def processes_in(parent: int, name: str) -> bool:
    """Return whether a process has a child of this name."""
    pids = [pid for each in Path(f"/proc/{parent}/task").glob("*/children") for pid in each.read_text().split()]
    return any(Path(f"/proc/{pid}/comm").read_text() == f"{name}\n" for pid in pids)

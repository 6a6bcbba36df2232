from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.host.host import dies_with_parent
from testbed.host.packages import find_program

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.skipif(not find_program("setpriv"), reason="this host has no setpriv")


def test_a_child_runs_under_its_own_pid_and_its_status_comes_back() -> None:
    with subprocess.Popen(
        dies_with_parent(["sh", "-c", "echo $$; exit 7"]), stdout=subprocess.PIPE, text=True
    ) as child:
        said, _ = child.communicate()
    assert (int(said), child.returncode) == (child.pid, 7)


def test_a_child_whose_parent_is_gone_already_starts_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    orphan = shlex.join(dies_with_parent(["touch", str(mark)]))
    # the shell between is its parent now, as init is when the bed died in between
    subprocess.run(["sh", "-c", f"{orphan}; true"], check=True)
    assert not mark.exists()


def test_a_qemu_that_is_asked_what_it_can_do_ends_with_whoever_asks(tmp_path: Path) -> None:
    pid, program = tmp_path / "pid", tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\necho $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 60\n")
    program.chmod(0o755)
    asks = f"from pathlib import Path; from testbed.host.qemu import probe; probe(Path({str(program)!r}))"
    with subprocess.Popen([sys.executable, "-c", asks], stderr=subprocess.DEVNULL) as bed:
        until(pid.exists)
        bed.kill()
    until(lambda: not Path("/proc", pid.read_text().strip()).exists())


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)

"""`testbed revive` beside a QEMU that somebody else has started."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.disks import Qmp
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def reviving(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command; it ends with this."""
    command = [sys.executable, "-m", "testbed", "revive", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    content: dict[str, Any] = json.loads(process.stdout.readline())
    return content


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[tuple[str, Qmp]]:
    """Yield the QMP socket of a VM that stands still, and a second one to steer it by."""
    socket = f"{tmp_path}/qmp"
    with Qmp("-qmp", f"unix:{socket},server=on,wait=off") as qemu:
        qemu.execute("stop")
        yield socket, qemu


def test_a_stopped_vm_is_reset_and_goes_on_so_many_times(stopped: tuple[str, Qmp]) -> None:
    socket, qemu = stopped
    with reviving(socket, "--on", "paused", "--most", "2", "--json") as process:
        for count in (1, 2):
            told = line_of(process)
            assert (told["status"], told["revived"]) == ("paused", count)
            assert qemu.query("query-status")["status"] == "running"
            qemu.execute("stop")
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 128
        assert "after 2 resets" in errors
    assert qemu.query("query-status")["status"] == "paused"
    resets = [event for event in qemu.events if event["event"] == "RESET"]
    assert len(resets) == 2


def test_a_stop_for_another_reason_is_no_revival_too_many(stopped: tuple[str, Qmp]) -> None:
    """The watcher gave up when, after the last revival, the VM stopped for another reason."""
    socket, qemu = stopped
    with reviving(socket, "--on", "paused", "--most", "1", "--json") as process:
        assert line_of(process)["revived"] == 1
        qemu.execute("migrate", uri="exec:cat >/dev/null")
        told = line_of(process)
        assert told["status"] in ("finish-migrate", "postmigrate")
        assert told["revived"] == 0
        qemu.execute("quit")
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")


def test_a_stop_for_another_reason_is_left_alone_until_qemu_ends(stopped: tuple[str, Qmp]) -> None:
    socket, qemu = stopped
    with reviving(socket, "--json") as process:
        told = line_of(process)
        assert (told["status"], told["revived"]) == ("paused", 0)
        assert qemu.query("query-status")["status"] == "paused"
        qemu.execute("quit")
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")


@pytest.mark.parametrize("socket", ["nothing-here", "localhost:1", "/dev/null"])
def test_where_no_qemu_answers_is_wrong_input(tmp_path: Path, socket: str) -> None:
    command = [sys.executable, "-m", "testbed", "revive", socket]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"QMP socket {socket}" in done.stderr
    assert "server=on,wait=off" in " ".join(done.stderr.split())


def test_a_socket_that_serves_another_and_a_state_that_is_none_are_wrong_input(stopped: tuple[str, Qmp]) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(stopped[0])
        assert b"QMP" in other.recv(4096)
        command = [sys.executable, "-m", "testbed", "revive", stopped[0]]
        busy = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (busy.returncode, "no greeting" in busy.stderr) == (2, True)
        typo = subprocess.run([*command, "--on", "internal_error"], capture_output=True, text=True, check=False)
        assert (typo.returncode, "internal-error" in typo.stderr) == (2, True)

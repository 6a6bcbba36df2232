"""`run --keep`: a judged machine waits, people reach it on sockets of their own, and nothing is left of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pexpect
import pytest

from tests.qemu.conftest import processes_naming

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRESENT = ("disk-present", "--machine", "q35")
WAITING = "Enter ends this machine"


class Kept:
    """A run at a terminal that keeps its machine."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "testbed", "run", *arguments],
            cwd=folder,
            env={**os.environ, "TERM": "dumb"},
            encoding="utf-8",
            timeout=180,
            dimensions=(50, 250),
        )
        try:
            self.child.expect(WAITING)
        except pexpect.ExceptionPexpect:
            self.child.close(force=True)  # or it would hold a guest slot for ever
            raise
        self.told = self.child.before or ""

    def path(self, name: str) -> str:
        """Return the socket that the told commands name."""
        found = re.search(rf"/\S+\.attach-{name}", self.told)
        assert found, self.told
        return found[0]

    def connect(self, name: str) -> socket.socket:
        """Connect to one of the sockets."""
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(30)
        peer.connect(self.path(name))
        return peer


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    run = Kept(tmp_path, *PRESENT, "--keep", "all")
    yield run
    run.child.close(force=True)


def ended(kept: Kept) -> int:
    kept.child.expect(pexpect.EOF)
    kept.child.close()
    assert processes_naming(kept.folder) == []
    assert processes_naming(kept.path("qmp")) == []
    return kept.child.exitstatus if kept.child.exitstatus is not None else -1


def read_until(peer: socket.socket, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        more = peer.recv(65536)
        assert more, data
        data += more
    return data


@pytest.mark.seconds(10)
def test_console_qmp_and_gdb_stub_are_open_to_people(kept: Kept) -> None:
    with kept.connect("qmp") as qmp:
        assert "QMP" in json.loads(qmp.makefile().readline())
        qmp.sendall(b'{"execute": "qmp_capabilities"}\n{"execute": "query-status"}\n')
        assert b'"running"' in read_until(qmp, b'"status": ')
    for _ in range(2):  # one peer after another
        with kept.connect("console") as console:
            read_until(console, b"\r\n")
            console.sendall(b"echo $((6 * 7)) $(tty)\n")
            read_until(console, b"42 /dev/ttyS0")
    with kept.connect("gdb") as gdb:
        gdb.sendall(b"$?#3f")
        assert re.search(rb"\$T[0-9a-f]{2}", read_until(gdb, b"#"))
        gdb.sendall(b"$D#44")  # detach: the guest goes on
        read_until(gdb, b"$OK#")
    outcomes = list(kept.folder.glob("testbed-runs/*/*/*/outcome.json"))
    assert json.loads(outcomes[0].read_text())["verdict"] == "good"
    kept.child.send("\r")
    assert ended(kept) == 0


@pytest.mark.seconds(10)
def test_the_told_commands_can_be_pasted(kept: Kept) -> None:
    pasted = [line.split("#")[0].strip() for line in kept.told.splitlines() if ".attach-" in line]
    commands = [re.sub(r"^(console|QMP|gdb) +", "", line) for line in pasted]
    assert [shlex.split(command)[0] for command in commands] == ["socat", "qmp-shell", "socat", "gdb"]
    hello = '{"execute": "qmp_capabilities"}\n{"execute": "query-name"}\n'
    said = subprocess.run(
        f"(cat; sleep 1) | {commands[2]}", shell=True, input=hello, capture_output=True, text=True, check=True
    )
    assert '"name": "testbed"' in said.stdout
    shell = pexpect.spawn("sh", ["-c", commands[0]], encoding="utf-8", timeout=30)
    shell.send("echo $((6 * 7)) pasted\r")
    shell.expect("42 pasted")
    shell.send("\x1d")
    shell.expect(pexpect.EOF)
    shell.close()
    kept.child.send("\r")
    assert ended(kept) == 0


@pytest.mark.seconds(10)
def test_a_kept_qemu_that_is_ended_by_hand_ends_the_wait(kept: Kept) -> None:
    with kept.connect("qmp") as qmp, kept.connect("console"):
        qmp.sendall(b'{"execute": "qmp_capabilities"}\n{"execute": "quit"}\n')
        kept.child.expect("the kept QEMU has ended")
    assert ended(kept) == 0


@pytest.mark.seconds(10)
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.extended), signal.SIGTERM])
def test_a_signal_ends_a_kept_machine(kept: Kept, number: signal.Signals) -> None:
    kept.child.kill(number)
    assert ended(kept) == 130


@pytest.mark.seconds(15)
def test_a_guest_that_panicked_at_boot_is_kept_without_a_shell(tmp_path: Path) -> None:
    kept = Kept(tmp_path, *PRESENT, "--cmdline", "initcall_blacklist=populate_rootfs", "--keep", "broken")
    assert "no shell" in kept.told
    with kept.connect("console") as console:
        read_until(console, b"end Kernel panic")
    kept.child.send("\r")
    assert ended(kept) == 128


@pytest.mark.seconds(10)
def test_without_a_terminal_it_waits_until_standard_input_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "testbed", "run", *PRESENT, "--keep", "all"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        assert run.stdin
        while WAITING not in (line := run.stdout.readline()):
            assert line, "it ended without waiting"
        assert processes_naming(tmp_path) != []
        run.stdin.close()
        assert run.wait(60) == 0
    assert processes_naming(tmp_path) == []


@pytest.mark.seconds(10)
def test_a_verdict_that_does_not_fit_is_not_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "testbed", "run", *PRESENT, "--keep", "bad"]
    result = subprocess.run(command, cwd=tmp_path, input="", capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "kept" not in result.stdout

"""A QEMU that hangs, dies or talks nonsense: the right verdict, in time, with memory bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.cell.judge import rule
from testbed.guest.shell import Shell
from testbed.host.qemu import find_qemu
from testbed.machine import launch as launching
from testbed.machine import qmp as qmp_room
from testbed.machine.snapshot import save
from testbed.model.errors import BedError, BrokenError, ChannelError, GuestCrashedError, QemuCrashedError, QemuLostError
from testbed.model.kernel_log import Crash
from testbed.model.outcome import Verdict
from tests.faults.peers import peer
from tests.qemu.conftest import processes_naming, says, tiny_boot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testbed.machine.launch import Machine
    from tests.qemu.conftest import LaunchMachine

#: in a child of these tests; wall seconds in which each fault must have been judged
DEADLINE = 60.0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give QEMU three seconds for an answer in place of two minutes."""
    monkeypatch.setattr(qmp_room, "ANSWER_SECONDS", 3.0)


@contextlib.contextmanager
def stopped(machine: Machine) -> Iterator[None]:
    os.kill(machine.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(machine.process.pid, signal.SIGCONT)


def broken(error: BedError) -> None:
    """Check that an error means `broken` even after the stimulus, and says on what that rests."""
    ruling = rule(error, stimulus="device_del")
    assert ruling.verdict is Verdict.BROKEN
    assert ruling.findings[0].evidence


ODD_ANSWERS = {
    "garbage": r"say(b'\x00\xff\xfe what? \x1b[31m\r\n')",
    "no object": r"say(b'[1, 2]\r\n')",
    "an object of nothing": r"say(b'{}\r\n')",
    "an event without a name": r"say(b'{\"event\": null}\r\n{\"return\": {}, \"id\": \"x\"}\r\n')",
    "an answer to another question": r"say(b'{\"return\": {}, \"id\": \"never\"}\r\n')",
    "an error of no shape": r"say(b'{\"error\": 7, \"id\": \"__qmp#00001\"}\r\n')",
    "half a line": r"say(b'{\"return\": {'); peers[0].shutdown(2); talk.close()",
    "a closed socket": r"peers[0].shutdown(2); talk.close()",
    "a line of 20 MB": r"say(b'{\"return\": \"' + b'x' * 20_000_000 + b'\"}\r\n')",
    "a line without end": "\nwhile True: say(b'x' * 65536)",
    "nesting without end": r"say(b'[' * 100_000 + b'\r\n')",
    "silence": "pass",
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("answer", ODD_ANSWERS)
async def test_odd_answers_of_qmp_are_broken_in_time(
    launched: LaunchMachine, tmp_path: Path, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    odd = peer(tmp_path, ODD_ANSWERS[answer])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with asyncio.timeout(DEADLINE), launched(qemu=odd) as machine:
        with pytest.raises(ChannelError, match="QMP: query-status") as caught:
            await machine.qmp.execute("query-status")
        broken(caught.value)
        with pytest.raises(ChannelError):
            await machine.console.expect("never")
    assert processes_naming(tmp_path) == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


@pytest.mark.usefixtures("impatient")
async def test_a_stopped_qemu_is_broken_and_not_a_silent_guest(
    launched: LaunchMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.guest.shell._QEMU_ANSWERS", 2.0)
    async with launched() as machine, Shell(machine) as shell:
        await machine.qmp.execute("cont")
        with stopped(machine):
            async with asyncio.timeout(DEADLINE):
                with pytest.raises(ChannelError, match="query-status: QEMU did not answer within 2 s") as caught:
                    await shell.patiently(asyncio.Event().wait(), "anything", 1.0)
            broken(caught.value)
            with pytest.raises(ChannelError):
                await machine.qmp.execute("device_del", {"id": "rp1"})


async def test_a_silent_guest_of_a_living_qemu_is_a_crash(launched: LaunchMachine) -> None:
    async with launched() as machine, Shell(machine) as shell:
        await machine.qmp.execute("cont")
        with pytest.raises(GuestCrashedError, match="no answer for 1 s") as caught:
            await shell.patiently(asyncio.Event().wait(), "anything", 1.0)
        assert caught.value.crash is Crash.SILENCE


@pytest.mark.usefixtures("impatient")
async def test_a_qemu_stopped_in_device_add_is_broken(launched: LaunchMachine) -> None:
    async with launched() as machine:
        with stopped(machine), pytest.raises(ChannelError, match="device_add: QEMU did not answer") as caught:
            await machine.qmp.execute("device_add", {"driver": "e1000", "bus": "rp1", "id": "x"})
        broken(caught.value)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGKILL, QemuLostError), (signal.SIGABRT, QemuCrashedError)])
async def test_a_qemu_that_dies_while_it_is_saved(
    launched: LaunchMachine, tmp_path: Path, number: signal.Signals, kind: type[BedError]
) -> None:
    async with launched() as machine:
        os.kill(machine.process.pid, signal.SIGSTOP)
        saving = asyncio.create_task(save(machine, tmp_path / "state"))
        await asyncio.sleep(0.05)
        os.kill(machine.process.pid, number)
        with contextlib.suppress(ProcessLookupError):  # SIGKILL ends a stopped process too, and it may be gone already
            os.kill(machine.process.pid, signal.SIGCONT)
        with pytest.raises(kind):
            async with asyncio.timeout(DEADLINE):
                await saving


async def test_a_qemu_that_never_connects_is_broken(
    launched: LaunchMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_CONNECT_SECONDS", 1)
    program = tmp_path / "sleeper"
    real = find_qemu().path
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *"-M none"*|*-version*|*"-L help"*) exec {real} "$@";; esac\nsleep 600\n'
    )
    program.chmod(0o755)
    with pytest.raises(BrokenError, match="did not connect to its sockets within 1 s"):
        async with launched(qemu=find_qemu(str(program))):
            pass
    assert processes_naming(tmp_path) == []


async def test_a_console_full_of_odd_bytes_is_kept_and_read_on(launched: LaunchMachine, tmp_path: Path) -> None:
    odd = "\x1b[2J\x1b]0;owned\x07\x9b31m\x00"  # says() ends at NUL
    code = says(odd.rstrip("\0") + "\r\nend\r\n")
    async with launched(boot=tiny_boot(tmp_path, code)) as machine:
        await machine.qmp.execute("cont")
        await machine.console.expect("end\r\n")
        assert (machine.rundir / "console.log").read_bytes().startswith(b"\x1b[2J")


async def test_a_full_disk_under_the_rundir_is_told_to_whoever_waits(launched: LaunchMachine, tmp_path: Path) -> None:
    """Limit what this process may write to a file: for the bed a full disk is an error of write(2) like this one."""
    code = says("x" * 20_000 + "\r\nend\r\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with launched(boot=tiny_boot(tmp_path, code)) as machine:
        started = time.monotonic()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
            await machine.qmp.execute("cont")
            with pytest.raises(BrokenError, match=r"console: writing console.log: File too large") as caught:
                await machine.console.expect("end\r\n")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert time.monotonic() - started < DEADLINE
        broken(caught.value)


async def test_a_host_without_descriptors_starts_nothing_and_says_so(launched: LaunchMachine, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # the next ones take its number and those behind it
    os.close(lowest)
    for room in (2, 5, 8):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
            with pytest.raises((OSError, BedError), match="Too many open files"):
                async with launched(rundir=tmp_path / f"run{room}"):
                    pass
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert processes_naming(tmp_path / f"run{room}") == []

"""A guest by its console alone: what the agent does elsewhere, done by a shell of this host's on a noisy line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.guest.console.guest import boot_by_loader
from testbed.guest.files import show
from testbed.model.errors import BootError, BrokenError, UnsupportedError
from testbed.model.login import Login
from tests.unit.test_own_boot import LOGIN, NOISE, SECRET, Line, machine_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.guest.guest import Guest

RECORDS = b"6,7,1000001,-;pcieport 0000:00:02.0: pciehp: Slot #0\n SUBSYSTEM=pci\n6,8,1000002,-;later\n"


async def shell_behind(line: Line) -> None:
    """Log a user in, and hand the line to a shell of this host's; a kernel prints into all that it says."""
    await line.say(LOGIN)
    await line.hear(b"root\n")
    await line.say(b"root\r\nPassword: ")
    await line.hear(f"{SECRET}\n".encode())
    await line.say(b"\r\nLinux customer 6.1.0\r\n# ")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("dash", stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL)
    assert process.stdin
    assert process.stdout

    async def forward() -> None:
        assert process.stdin
        while True:
            process.stdin.write(await line.key())
            await process.stdin.drain()

    forwarding = asyncio.create_task(forward())
    try:
        while data := await process.stdout.read(40):
            await line.say(data + (NOISE if data[-1] > 0xBC else b""))
    finally:
        forwarding.cancel()
        process.kill()
        await asyncio.gather(forwarding, process.wait(), return_exceptions=True)


@contextlib.asynccontextmanager
async def guest_of(folder: Path) -> AsyncIterator[Guest]:
    if shutil.which("dash") is None:
        pytest.skip("this host has no dash")
    login = Login(user="root", password=SECRET)
    async with machine_of(shell_behind, folder, login=login) as machine, boot_by_loader(machine) as guest:
        yield guest


async def test_commands_files_and_waits_are_exact(tmp_path: Path) -> None:
    sysfs = tmp_path / "sys"
    sysfs.mkdir()
    (sysfs / "address").write_bytes(b"0000:01:00\n")
    (sysfs / "power").write_bytes(b"")
    (sysfs / "driver").symlink_to("../bus/pciehp")
    async with guest_of(tmp_path) as guest:
        shell = guest.shell
        assert guest.hello.cmdline == Path("/proc/cmdline").read_text().rstrip("\n")
        result = await shell.run("echo out; echo err >&2; exit 7")
        assert (result.status, result.text, result.error) == (7, "out", "err")
        assert result.evidence.startswith("shell.jsonl:")
        with pytest.raises(BrokenError, match="ended with 3: no"):
            await shell.succeed("echo no; exit 3")
        shown = await show(guest, f"{sysfs}/*", f"{sysfs}/none*")
        assert shown.files == {f"{sysfs}/address": b"0000:01:00\n", f"{sysfs}/power": b""}
        assert shown.links == {f"{sysfs}/driver": "../bus/pciehp"}
        assert (await shell.wait_path(f"{sysfs}/addr*", exists=True, seconds=5)).came
        gone = await shell.wait_path(f"{sysfs}/addr*", exists=False, seconds=0.3)
        assert not gone.came
        assert await shell.wait_until_succeeds("test -e /proc", seconds=5)
        assert not await shell.wait_until_succeeds("test -e /none", seconds=0.3)
        before = await shell.clock()
        await shell.sleep(0.2)
        assert await shell.clock() >= before + 0.2
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert SECRET.encode() not in kept


async def test_a_span_of_guest_time_passes_in_steps(tmp_path: Path) -> None:
    async with guest_of(tmp_path) as guest:
        steps = await guest.shell.start_steps(0.4)
        assert steps.seconds == steps.started > 0
        while await steps.go_on(0.15):
            pass
        assert steps.seconds - steps.started >= 0.4
        await steps.cancel()


async def test_kernel_messages_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kmsg").write_bytes(RECORDS)
    monkeypatch.setattr("testbed.guest.console.guest.KMSG", str(tmp_path / "kmsg"))
    async with guest_of(tmp_path) as guest:
        log = guest.shell.log
        for _ in range(2):
            await guest.shell.catch_up()
        assert [(each.sequence, each.text) for each in log.records] == [
            (7, "pcieport 0000:00:02.0: pciehp: Slot #0"),
            (8, "later"),
        ]


async def test_who_reads_kernel_messages_sleeps_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "kmsg")
    monkeypatch.setattr("testbed.guest.console.guest.KMSG", str(tmp_path / "kmsg"))
    # both ends are open here: a read of what is not there yet waits
    kmsg = os.open(tmp_path / "kmsg", os.O_RDWR)
    os.write(kmsg, RECORDS)
    try:
        async with guest_of(tmp_path) as guest:
            await guest.shell.catch_up()
            assert [each.sequence for each in guest.shell.log.records] == [7, 8]
    finally:
        os.close(kmsg)


async def test_kernel_messages_that_cannot_be_read_are_not_taken_for_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.guest.console.guest.KMSG", str(tmp_path / "kmsg"))
    async with guest_of(tmp_path) as guest:
        with pytest.raises(BrokenError, match=r"console: reading .*kmsg: cat: .*No such file"):
            await guest.shell.catch_up()


async def test_what_only_the_agent_can_do_is_not_supported(tmp_path: Path) -> None:
    async with guest_of(tmp_path) as guest:
        with pytest.raises(UnsupportedError, match="prove-nic: this needs the test bed's agent"):
            await guest.shell.run_verb("prove-nic", "eth0")
        with pytest.raises(UnsupportedError, match="this needs the test bed's agent"):
            await guest.shell.put_file("/a", b"b")
        assert (await guest.shell.run_verb("prove-disk", "no-such-serial")).status == 3


async def test_a_boot_that_comes_to_no_shell_is_told(tmp_path: Path) -> None:
    async def peer(line: Line) -> None:
        await line.say(b"mount: no\r\nALERT!  LABEL=nowhere does not exist.  Dropping to a shell!\r\n(initramfs) ")

    async with machine_of(peer, tmp_path, login=Login(user="root")) as machine:
        with pytest.raises(BootError, match="came to initrd and no further: initramfs-shell: ALERT"):
            async with boot_by_loader(machine):
                pass

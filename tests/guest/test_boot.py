"""A guest boots with exactly its command line, by PVH and as bzImage, on both machines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.prepared import launched
from testbed.guest.guest import boot
from testbed.model.errors import BrokenError, GuestCrashedError, QemuLostError
from testbed.model.kernel_log import Crash
from tests.guest.conftest import prepared

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.host.host import LocalHost
    from testbed.pytest_plugin import BootFactory

ODD = 'quiet  spaced="a b"   pci=noaer,nomsi -- init args  '


@pytest.mark.parametrize("machine", ["q35", "i440fx"])
async def test_the_command_line_arrives_verbatim(machine: str, testbed_boot: BootFactory) -> None:
    async with testbed_boot(machine=machine, cmdline=ODD) as guest:
        assert guest.hello.cmdline == f"console=ttyS0 {ODD}"
        assert await guest.shell.succeed("cat /proc/cmdline") == f"console=ttyS0 {ODD}"


async def test_the_same_image_boots_as_bzimage(host: LocalHost, tmp_path: Path) -> None:
    ready = prepared()
    plain = replace(ready, built=replace(ready.image, vmlinux=None))
    async with launched(plain, host, tmp_path) as machine, boot(machine) as guest:
        assert machine.boot.kernel == ready.image.bzimage
        assert guest.hello.release == ready.image.kernel


async def test_cold_plugged_devices_are_in_the_guests_tree(testbed_boot: BootFactory) -> None:
    devices = {"devices": ["virtio-blk", "virtio-net", "e1000"]}
    async with testbed_boot(parameters=devices) as guest:
        seen = await guest.shell.succeed("lspci -n")
        assert "1af4:1042" in seen  # virtio-blk, modern
        assert "1af4:1041" in seen  # virtio-net, modern
        assert "8086:100e" in seen  # e1000
        await guest.load_modules("virtio_pci", "virtio_net", "e1000")
        assert await guest.shell.succeed("ls /sys/class/net | grep -c eth") == "2"


async def test_the_log_of_record_is_complete_although_the_console_is_quiet(testbed_boot: BootFactory) -> None:
    async with testbed_boot(cmdline="quiet loglevel=3") as guest:
        await guest.shell.succeed("echo the last word > /dev/kmsg")
        await guest.shell.catch_up()
        shown = (await guest.shell.succeed("dmesg")).splitlines()
        await guest.shell.catch_up()  # the kernel may have spoken meanwhile: the log holds at least what dmesg showed
        records = guest.shell.log.records
        assert [record.sequence for record in records] == list(range(len(records)))
        assert [line.partition("] ")[2] for line in shown] == [record.text for record in records[: len(shown)]]
        (last,) = guest.shell.log.find("^the last word$")
        written = (guest.machine.rundir / "kernel.log").read_text().splitlines()
        assert written[last.line - 1].endswith("the last word")
        assert "_OSC: OS supports" not in (guest.machine.rundir / "console.log").read_text()


async def test_another_command_line_than_the_given_one_is_broken(host: LocalHost, tmp_path: Path) -> None:
    ready = prepared()
    async with launched(ready, host, tmp_path) as machine:
        changed = replace(machine, boot=replace(machine.boot, cmdline="console=ttyS0 other"))
        with pytest.raises(BrokenError, match="/proc/cmdline is 'console=ttyS0'"):
            async with boot(changed):
                pass


async def test_a_panic_ends_every_wait_at_once(testbed_boot: BootFactory) -> None:
    async with testbed_boot() as guest:
        waits = [
            asyncio.create_task(guest.shell.sleep(600)),
            asyncio.create_task(guest.machine.console.expect("never")),
        ]
        crash = asyncio.create_task(guest.shell.run("echo c > /proc/sysrq-trigger"))
        ended = await asyncio.gather(crash, *waits, return_exceptions=True)
        assert [type(error) for error in ended] == [GuestCrashedError] * 3
        assert "sysrq" in str(ended[0]) or "NULL" in str(ended[0])


async def test_a_guest_that_resets_itself_crashed(testbed_boot: BootFactory) -> None:
    async with testbed_boot() as guest:
        with pytest.raises(GuestCrashedError) as caught:
            await guest.shell.run("echo b > /proc/sysrq-trigger")
        assert caught.value.crash is Crash.RESET
        assert caught.value.evidence.startswith("qmp.jsonl:")


async def test_a_tolerated_crash_lets_the_guest_go_on(testbed_boot: BootFactory) -> None:
    async with testbed_boot() as guest:
        guest.machine.watch.tolerate(Crash.HUNG_TASK)
        await guest.shell.succeed("echo 'INFO: task x:1 blocked for more than 120 seconds.' > /dev/kmsg")
        await guest.shell.catch_up()
        assert [crash.crash for crash in guest.machine.watch.crashes] == [Crash.HUNG_TASK]
        assert await guest.shell.succeed("echo alive") == "alive"


async def test_qemu_killed_from_outside_is_lost_not_crashed(testbed_boot: BootFactory) -> None:
    async with testbed_boot() as guest:
        waiting = asyncio.create_task(guest.shell.sleep(600))
        await asyncio.sleep(0)
        await guest.machine.process.end()
        with pytest.raises(QemuLostError, match="SIGKILL"):
            await waiting

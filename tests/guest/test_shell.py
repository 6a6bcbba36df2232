"""The command channel: several commands at once, binary files, waits in guest time, and nothing that blocks it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from testbed.guest.shell import Command, PathWait, Steps
from testbed.model.errors import BlockedError, BrokenError

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.pytest_plugin import BootFactory

pytestmark = pytest.mark.xdist_group("shell")


async def test_commands_run_side_by_side_each_with_its_output_and_status(testbed_guest: Guest) -> None:
    guest = testbed_guest
    slow = await guest.shell.start("sleep 2; echo slow; exit 3")
    results = await asyncio.gather(*(guest.shell.run(f"echo out{n}; echo err{n} >&2; exit {n}") for n in range(8)))
    assert [result.text for result in results] == [f"out{n}" for n in range(8)]
    assert [result.error for result in results] == [f"err{n}" for n in range(8)]
    assert [result.status for result in results] == list(range(8))
    last = await slow.wait()
    assert (last.text, last.status) == ("slow", 3)
    assert last.ended - last.started >= 1.9


async def test_nothing_is_kept_of_what_has_ended(testbed_boot: BootFactory) -> None:
    async with testbed_boot() as guest:
        for _ in range(3):
            await guest.shell.run("true")
            await guest.shell.wait_path("/proc", exists=True, seconds=1)
            await guest.shell.wait_path("/nowhere", exists=True, seconds=0.1)
            steps = await guest.shell.start_steps(0.2)
            while await steps.go_on(0.1):
                pass
            await (await guest.shell.start_steps(60)).cancel()
        del steps
        gc.collect()
        assert [each for each in gc.get_objects() if isinstance(each, Command | PathWait | Steps)] == []


async def test_a_stuck_command_blocks_nothing_and_can_be_killed_with_its_children(testbed_guest: Guest) -> None:
    guest = testbed_guest
    stuck = await guest.shell.start("sleep 1000 & sleep 1000; echo never")
    assert await guest.shell.succeed("echo alive") == "alive"
    await stuck.kill()
    assert (await stuck.wait()).status == -9
    assert "sleep 1000" not in await guest.shell.succeed("ps")


@pytest.mark.seconds(25)
async def test_a_command_that_gets_nowhere_is_told_with_the_process_its_state_and_stack(
    testbed_boot: BootFactory,
) -> None:
    async with testbed_boot() as guest:
        await guest.shell.succeed("mkfifo /tmp/nobody-writes")
        with pytest.raises(BlockedError) as caught:
            await guest.shell.run("cat /tmp/nobody-writes; true", patience=1)
        assert "(cat)" in caught.value.task
        assert "(S)" in caught.value.task
        assert "do_sys_openat2" in caught.value.stack
        assert caught.value.evidence.startswith("shell.jsonl:")
        with pytest.raises(BlockedError, match=r"\(R\)"):
            await guest.shell.run("while :; do :; done", patience=1)
        # one that is at work is given time
        assert (await guest.shell.run("for n in 1 2 3 4 5; do sleep 0.5; done; echo done", patience=1)).text == "done"
        assert await guest.shell.succeed("echo alive") == "alive"


async def test_a_killed_background_child_does_not_hold_up_the_end(testbed_guest: Guest) -> None:
    guest = testbed_guest
    result = await guest.shell.run("sleep 999 & echo started")
    assert (result.text, result.status) == ("started", 0)


async def test_files_and_output_are_binary_safe(testbed_guest: Guest) -> None:
    guest = testbed_guest
    data = bytes(range(256)) * 64 + os.urandom(50_000) + b"\x01TB1" * 100
    await guest.shell.put_file("/tmp/data", data, mode=0o600)
    assert (await guest.shell.succeed("md5sum < /tmp/data")).split()[0] == hashlib.md5(data).hexdigest()
    assert (await guest.shell.run("cat /tmp/data")).stdout == data
    assert await guest.shell.succeed("stat -c %a /tmp/data") == "600"
    with pytest.raises(BrokenError, match="No such file or directory"):
        await guest.shell.put_file("/nowhere/data", b"")


async def test_a_large_output_arrives_whole(testbed_guest: Guest) -> None:
    guest = testbed_guest
    result = await guest.shell.run("seq 100000")
    assert result.stdout == "".join(f"{n}\n" for n in range(1, 100_001)).encode()


async def test_waits_for_paths_run_in_guest_time(testbed_guest: Guest) -> None:
    guest = testbed_guest
    before = await guest.shell.clock()
    missed = await guest.shell.wait_path("/tmp/late", exists=True, seconds=1.0)
    assert not missed.came
    assert 1.0 <= missed.seconds - before < 1.5
    wait = asyncio.create_task(guest.shell.wait_path("/tmp/late", exists=True, seconds=30))
    await guest.shell.succeed("sleep 0.5; touch /tmp/late")
    came = await wait
    assert came.came
    gone = asyncio.create_task(guest.shell.wait_path("/tmp/late", exists=False, seconds=30))
    await guest.shell.succeed("rm /tmp/late")
    assert (await gone).came


async def test_a_cancelled_wait_is_forgotten_by_the_guest(testbed_guest: Guest) -> None:
    guest = testbed_guest
    for _ in range(200):  # more than the guest has places for
        wait = asyncio.create_task(guest.shell.sleep(600))
        await asyncio.sleep(0)
        wait.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wait
    assert await guest.shell.succeed("echo alive") == "alive"
    await guest.shell.sleep(0.1)


async def test_a_flood_of_kernel_messages_delays_no_answer_for_ever(testbed_guest: Guest) -> None:
    guest = testbed_guest
    flood = await guest.shell.start("while :; do echo flood > /dev/kmsg; done")
    for _ in range(20):
        await guest.shell.clock()
    await flood.kill()
    assert (await flood.wait()).status == -9


async def test_wait_until_succeeds_gives_up_after_its_guest_seconds(testbed_guest: Guest) -> None:
    guest = testbed_guest
    assert not await guest.shell.wait_until_succeeds("false", seconds=1)
    await guest.shell.start("sleep 1; touch /tmp/there")
    assert await guest.shell.wait_until_succeeds("test -e /tmp/there", seconds=20)

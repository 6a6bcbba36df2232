"""A guest that migrates: what it was doing goes on, both QEMUs are in its rundir; what cannot migrate is skipped."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.campaign.record.timeline import read_timeline
from testbed.guest.migration import migrate_guest
from testbed.machine import migration
from testbed.machine.launch import start_qemu
from testbed.machine.migration import ARGV
from testbed.machine.reproduce import FILE
from testbed.model.errors import MigrationError, QemuLostError

if TYPE_CHECKING:
    import contextlib

    from testbed.machine.launch import Machine, Plan, Started
    from testbed.pytest_plugin import BootFactory, Judge

NATIVE: dict[str, Any] = {"hotplug": "native"}


@pytest.mark.seconds(8)
async def test_what_the_guest_was_doing_goes_on_in_the_second_qemu_and_in_a_third(testbed_boot: BootFactory) -> None:
    async with testbed_boot("q35", parameters=NATIVE) as guest:
        machine, shell = guest.machine, guest.shell
        running = await shell.start("sleep 2; echo still here")
        waiting = await shell.start_wait("/tmp/there", exists=True, seconds=60)
        processes = [machine.process]
        for _ in range(2):
            await migrate_guest(guest, machine.spec, machine.qemu)
            processes.append(machine.process)
        assert (await running.wait()).text == "still here"
        await shell.succeed("echo said in the third > /dev/kmsg; touch /tmp/there")
        assert (await waiting()).came
        await shell.catch_up()
        assert any("said in the third" in record.text for record in shell.log.records)
        # those that had the machine have ended, and the one that has it is watched
        assert [await each.wait() for each in processes[:-1]] == [-signal.SIGKILL] * 2
        os.kill(processes[-1].pid, signal.SIGKILL)
        with pytest.raises(QemuLostError):
            await shell.succeed("sleep 60")


@pytest.mark.seconds(6)
async def test_a_destination_that_does_not_start_leaves_the_guest_where_it_is(testbed_boot: BootFactory) -> None:
    async with testbed_boot("q35") as guest:
        machine = guest.machine
        *others, last = machine.spec.devices
        wrong = machine.spec.model_copy(
            update={"devices": [*others, last.model_copy(update={"properties": {**last.properties, "drive": "gone"}})]}
        )
        before = machine.process
        with pytest.raises(MigrationError, match=r"the destination: QEMU refused to start .*gone"):
            await migrate_guest(guest, wrong, machine.qemu)
        assert machine.process is before
        assert await guest.shell.succeed("echo here") == "here"


@pytest.mark.seconds(8)
async def test_both_qemus_are_in_the_rundir_and_on_one_timeline(testbed_try: Judge) -> None:
    outcome = await testbed_try("disk-unplug", parameters=NATIVE, options={"migrate": "pending"})
    assert (outcome.verdict, outcome.outcome) == ("good", "deleted"), outcome.reason
    rundir = Path(outcome.rundir)
    story = [entry.text for entry in read_timeline(rundir)]
    order = [
        next(n for n, text in enumerate(story) if text.startswith(begin))
        for begin in ("device_del", "migrate {", "destination: cont", "destination: event DEVICE_DELETED")
    ]
    assert order == sorted(order)
    assert not any(text.startswith("event DEVICE_DELETED") for text in story)
    assert '"defer"' in (rundir / ARGV).read_text()
    script = (rundir / FILE).read_text()
    assert "here the guest was migrated" in script
    assert "destination" not in script.partition("here the guest was migrated")[0]


@pytest.mark.seconds(6)
@pytest.mark.parametrize(
    ("scenario", "parameters", "options", "words"),
    [
        ("live-migration", {"devices": ["nvme"]}, {}, "QEMU cannot migrate this machine: .*nvme"),
        pytest.param(
            *("aer-recover", {**NATIVE, "devices": ["e1000e"]}, {"migrate": "pending"}, "sends no such error"),
            marks=pytest.mark.extended,
        ),
    ],
)
async def test_what_cannot_migrate_is_skipped_with_the_reason(
    scenario: str, parameters: dict[str, Any], options: dict[str, Any], words: str, testbed_try: Judge
) -> None:
    outcome = await testbed_try(scenario, parameters=parameters, options=options)
    assert outcome.verdict == "skip", outcome.reason
    assert re.search(words, outcome.reason)


@pytest.mark.seconds(8)
@pytest.mark.parametrize("when", ["waiting", "loading"])
async def test_a_destination_that_somebody_ends_is_no_refusal_and_the_guest_goes_on(
    when: str, testbed_boot: BootFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was judged `bad` (refused), as if the destination had not wanted the state."""
    started = start_qemu
    loads = migration._loaded

    async def killed(stack: contextlib.AsyncExitStack, plan: Plan, **given: Any) -> Started:
        there = await started(stack, plan, **given)
        if when == "waiting":
            os.kill(there.process.pid, signal.SIGKILL)
        return there

    async def loaded(machine: Machine, there: Any, *queues: Any) -> None:
        if when == "loading":
            os.kill(there.started.process.pid, signal.SIGKILL)
        await loads(machine, there, *queues)

    async with testbed_boot("q35") as guest:
        monkeypatch.setattr(migration, "start_qemu", killed)
        monkeypatch.setattr(migration, "_loaded", loaded)
        # so large that it is not there before the signal
        monkeypatch.setattr(migration, "_BANDWIDTH", 1 << 20)
        with pytest.raises(QemuLostError, match=r"killed from outside.*SIGKILL"):
            await migrate_guest(guest, guest.machine.spec, guest.machine.qemu)
        assert await guest.shell.succeed("echo here") == "here"

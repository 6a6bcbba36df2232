"""Loads on real devices: nothing is counted where nothing happened, and what was made to go wrong is counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from testbed.actions.register import Access, Route
from testbed.actions.unplug import unplug
from testbed.guest.disk_writer import BLOCK
from testbed.guest.drivers import load_drivers
from testbed.guest.load import Tally
from testbed.guest.nic import interface_of, prove_nic
from testbed.guest.pci import address_of
from testbed.model.errors import UnsupportedError
from testbed.scenarios.load_kinds import Fate, load_disk, load_net, load_register
from tests.guest.conftest import qemu_with

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.guest.load import BusyVerbs
    from testbed.pytest_plugin import BootFactory, Judge

NATIVE: dict[str, Any] = {"hotplug": "native"}
_VERSION = Access(route=Route.USER, bar=0, offset=0x38, width=4)
#: guest seconds a link is held down; the card's driver takes three more to have carrier again
_DOWN, _BACK = 1.0, 6.0


async def ended(guest: Guest, verbs: BusyVerbs) -> float:
    """Tell a load to end; return when that was."""
    stopped = await guest.shell.clock()
    await verbs.stop()
    return stopped


async def marked(guest: Guest, verbs: BusyVerbs) -> float:
    """Let a load be at work, and mark it."""
    await guest.shell.sleep(0.5)
    assert not verbs.ended, await verbs.tallies()
    await verbs.mark()
    return await guest.shell.clock()


@pytest.mark.seconds(40)
async def test_what_is_made_to_go_wrong_is_counted(testbed_boot: BootFactory) -> None:
    parameters = {**NATIVE, "devices": ["virtio-blk", "e1000e"]}
    async with testbed_boot("q35", parameters=parameters, cmdline="iomem=relaxed") as guest:
        await load_drivers(guest)
        await _frames_are_counted(guest)
        await _a_lost_write_is_found(guest)
        await _reads_of_a_device_that_goes_find_nothing(guest)


async def _frames_are_counted(guest: Guest) -> None:
    assert (await prove_nic(guest, "dev2")).works
    load = await load_net(guest, await interface_of(guest, "dev2"), "")
    since = await marked(guest, load.verbs)
    await guest.shell.sleep(1)
    quiet = await load.result(Fate.STAYS, marked=since, stopped=await ended(guest, load.verbs))
    assert (quiet.failure, quiet.findings[0].observed.split(" of ")[0]) == ("", "lost 0"), quiet.summary

    load = await load_net(guest, await interface_of(guest, "dev2"), "")
    since = await marked(guest, load.verbs)
    (network,) = guest.machine.spec.networks
    await guest.machine.qmp.execute("set_link", {"name": network.id, "up": False})
    await guest.shell.sleep(_DOWN)
    await guest.machine.qmp.execute("set_link", {"name": network.id, "up": True})
    await guest.shell.sleep(_BACK)
    stopped = await ended(guest, load.verbs)
    result = await load.result(Fate.DISTURBED, marked=since, stopped=stopped)
    (tally,) = await load.verbs.tallies()
    lost = tally.counts["sent"] - tally.done
    assert result.failure == "", result.summary
    assert f"frames lost {lost} of {tally.counts['sent']}" in result.summary
    # a hundred a second are sent where the guest gets its time; the gap holds all that were lost
    assert lost > 0
    assert tally.after_ms > 1000 * _DOWN
    assert (await load.result(Fate.STAYS, marked=since, stopped=stopped)).failure == "frames-lost"


async def _a_lost_write_is_found(guest: Guest) -> None:
    load = await load_disk(guest, guest.machine.spec.device("dev1"))
    since = await marked(guest, load.verbs)
    await guest.shell.sleep(1)
    stopped = await ended(guest, load.verbs)
    kept = await load.result(Fate.STAYS, marked=since, stopped=stopped)
    assert (kept.failure, "all there" in kept.summary) == ("", True), kept.summary
    (report, *_) = await load.verbs.reports()
    # not the block that the next write may have been on its way to
    victim = report.first if report.done % report.count else report.first + 1
    await asyncio.to_thread(_wipe, load.image, victim)
    lost = await load.result(Fate.STAYS, marked=since, stopped=stopped)
    assert lost.failure == "data-lost"
    assert f"lost in 1 blocks, the first is {victim}" in lost.summary


def _wipe(image: Any, number: int) -> None:
    with image.open("r+b") as file:
        file.seek(number * BLOCK)
        file.write(bytes(BLOCK))


async def _reads_of_a_device_that_goes_find_nothing(guest: Guest) -> None:
    card = guest.machine.spec.device("dev2")
    load = await load_register(guest, card, await address_of(guest.machine, "dev2"), _VERSION)
    since = await marked(guest, load.verbs)
    await unplug(guest, "dev2")
    await guest.shell.sleep(1)
    stopped = await ended(guest, load.verbs)
    assert (await load.result(Fate.GONE, marked=since, stopped=stopped)).failure == ""
    (tally,) = await load.verbs.tallies()
    assert isinstance(tally, Tally)
    # Linux 6.1 leaves the process its mapping; where nothing answers, QEMU gives 0
    assert tally.counts["changed"] > 10
    assert (tally.counts["ones"], tally.counts["value"]) == (0, 0)
    assert tally.done > 10
    assert (await load.result(Fate.STAYS, marked=since, stopped=stopped)).failure == "no-answer"


@pytest.mark.extended
@pytest.mark.seconds(30)
@pytest.mark.parametrize(
    ("scenario", "machine", "cell", "outcome", "words"),
    [
        ("disk-unplug", "q35", {"parameters": NATIVE, "options": {"load": "io"}}, "deleted", "all there"),
        ("disk-unplug", "i440fx", {"options": {"load": "io"}}, "deleted", "all there"),
        (
            "disk-unplug",
            "q35",
            {"parameters": NATIVE, "options": {"load": "io"}, "cmdline": "pcie_aspm=off"},
            "ignored",
            "all there",
        ),
        (
            "disk-unplug-reset",
            "q35",
            {"parameters": NATIVE, "options": {"load": "io"}, "cmdline": "pcie_aspm=off"},
            "ignored",
            "all there",
        ),
        (
            "disk-plug",
            "q35",
            {"parameters": {**NATIVE, "devices": ["e1000e"]}, "options": {"load": "net"}},
            "present",
            "frames lost 0 of",
        ),
        (
            "aer-recover",
            "q35",
            {"parameters": {**NATIVE, "devices": ["e1000e"]}, "options": {"load": "net", "severity": "fatal"}},
            "recovered",
            "frames lost",
        ),
        (
            "aer-recover",
            "q35",
            {"parameters": {**NATIVE, "devices": ["nvme"]}, "options": {"load": "io", "device": "rp1"}},
            "recovered",
            "all there",
        ),
    ],
)
async def test_it_is_judged_with_what_the_load_counted(
    scenario: str, machine: str, cell: dict[str, Any], outcome: str, words: str, testbed_try: Judge
) -> None:
    judged = await testbed_try(scenario, machine, **cell)
    assert judged.outcome == outcome, judged.reason
    assert words in judged.reason
    assert (judged.time, judged.start) == ("real", "fresh")
    # the writers end with a guest that is reset
    has_gap = any(each.subject.endswith(": longest gap") for each in judged.findings)
    assert has_gap == (scenario != "disk-unplug-reset")


@pytest.mark.extended
@pytest.mark.seconds(60)
async def test_frames_of_a_vf_that_is_reset_come_back(testbed_try: Judge) -> None:
    judged = await testbed_try("vf-flr", "sriov", qemu=qemu_with("igb"), options={"load": "net"})
    assert judged.verdict == "good", judged.reason
    assert "frames lost" in judged.reason


@pytest.mark.seconds(12)
async def test_a_bar_that_its_driver_has_is_no_load(testbed_try: Judge) -> None:
    judged = await testbed_try("disk-unplug", parameters=NATIVE, options={"load": "mmio"})
    assert judged.verdict == "skip", judged.reason
    assert judged.hint == "let it: --cmdline iomem=relaxed"
    assert UnsupportedError.__name__ not in judged.reason

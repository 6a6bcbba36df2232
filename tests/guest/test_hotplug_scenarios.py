"""The hot-plug scenarios that no case asks for: each is good on both kinds of machine, and bad where nobody serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from testbed.actions.hotplug import plug, release_backends
from testbed.actions.inventory import take_inventory
from testbed.actions.unplug import unplug
from testbed.guest.disk import await_disk
from testbed.guest.disk_writer import BLOCK, check_image, start_writers
from testbed.model.device_kind import device_kind, hot_device
from testbed.model.spec import Slot

if TYPE_CHECKING:
    from testbed.pytest_plugin import BootFactory, Judge

NATIVE: dict[str, Any] = {"hotplug": "native"}
TWO_DISKS = {"devices": ["virtio-blk", "nvme"]}

#: scenario, its options, machine, its parameters
GOOD: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("nic-unplug", {}, "q35", {**NATIVE, "devices": ["virtio-net"]}),
    ("nic-unplug", {}, "i440fx", {"devices": ["e1000"]}),
    ("nic-plug", {"card": "e1000e"}, "q35", NATIVE),
    ("nic-plug", {}, "i440fx", {}),
    ("nvme-unplug", {}, "q35", {**NATIVE, "devices": ["virtio-blk", "nvme"]}),
    ("disk-unplug", {}, "q35", {**NATIVE, "devices": ["virtio-scsi", "nvme"]}),
    ("disk-present", {}, "q35", {"devices": ["nvme"]}),
    ("disk-plug", {"disk": "virtio-scsi"}, "q35", NATIVE),
    ("nvme-plug", {}, "i440fx", {}),
    ("replug-cycles", {"cycles": 4}, "q35", NATIVE),
    ("replug-cycles", {"cycles": 4, "device": "nvme"}, "i440fx", {}),
    ("disk-unplug-twice", {}, "q35", NATIVE),
    ("disk-unplug-twice", {}, "i440fx", {}),
    ("disks-unplug-together", {}, "q35", {**NATIVE, **TWO_DISKS}),
    ("disks-unplug-together", {}, "i440fx", TWO_DISKS),
    ("multifunction-plug", {}, "q35", NATIVE),
    ("multifunction-plug", {}, "i440fx", {}),
    ("multifunction-unplug", {"asked": 1}, "q35", NATIVE),
    ("multifunction-unplug", {}, "i440fx", {}),
    ("disk-eject", {"by": "remove"}, "q35", NATIVE),
    ("disk-eject", {}, "i440fx", {}),
    ("disk-eject", {}, "i440fx", {"devices": ["virtio-scsi"]}),
]

#: the same with pcie_aspm=off, and what becomes of the request
DEAF: list[tuple[str, dict[str, Any], str]] = [
    ("nic-unplug", {**NATIVE, "devices": ["virtio-net"]}, "ignored"),
    ("nic-plug", NATIVE, "ignored"),
    ("nvme-unplug", {**NATIVE, "devices": ["nvme"]}, "ignored"),
    ("replug-cycles", NATIVE, "ignored"),
    ("disk-unplug-twice", NATIVE, "ignored"),
    ("disks-unplug-together", {**NATIVE, **TWO_DISKS}, "ignored"),
    ("multifunction-plug", NATIVE, "ignored"),
    ("multifunction-unplug", NATIVE, "taken-away"),
    ("disk-eject", NATIVE, "taken-away"),
]

#: what cannot be asked of the machine, and why
SKIPPED: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    ("disk-unplug", {}, {"devices": ["virtio-net"]}, "", "no cold-plugged disk"),
    ("nic-unplug", {}, {}, "", "no cold-plugged network card"),
    ("nvme-unplug", {}, {}, "", "no cold-plugged nvme"),
    ("disks-unplug-together", {}, {}, "", "fewer than two"),
    ("disk-plug-refused", {}, {}, "", "can be hot-plugged"),
    ("disk-unplug-unseen", {}, {}, "", "the guest saw the disk"),
    ("disk-unplug-reset", {}, {}, "", "did not ignore"),
    ("multifunction-unplug", {"asked": 5}, {}, "", "no function 5"),
    ("disk-eject", {}, {**NATIVE, "port_properties": {"hotplug": False}}, "", "no power file"),
]

#: what boots a machine for itself, where a sibling asks the same in the other way or of another device
ALONE: list[tuple[Any, ...]] = [
    *(
        row
        for row in GOOD
        if row[0] in ("nic-plug", "nvme-unplug") or row[3] == {**NATIVE, "devices": ["virtio-scsi", "nvme"]}
    ),
    *(row for row in DEAF if row[0] in ("nic-unplug", "disks-unplug-together")),
    *(row for row in SKIPPED if row[0] in ("nvme-unplug", "disks-unplug-together")),
]


@pytest.mark.seconds(12)
@pytest.mark.parametrize(
    ("scenario", "options", "machine", "parameters"),
    [pytest.param(*row, marks=[pytest.mark.extended] if row[2] == "i440fx" or row in ALONE else []) for row in GOOD],
)
async def test_it_is_good_where_somebody_serves_the_slots(
    scenario: str, options: dict[str, Any], machine: str, parameters: dict[str, Any], testbed_try: Judge
) -> None:
    outcome = await testbed_try(scenario, machine, options=options, parameters=parameters)
    assert outcome.verdict == "good", outcome.reason


@pytest.mark.seconds(15)
@pytest.mark.parametrize(
    ("scenario", "parameters", "became"),
    [pytest.param(*row, marks=[pytest.mark.extended] if row in ALONE else []) for row in DEAF],
)
async def test_it_is_bad_where_nobody_does(
    scenario: str, parameters: dict[str, Any], became: str, testbed_try: Judge
) -> None:
    outcome = await testbed_try(scenario, parameters=parameters, cmdline="pcie_aspm=off")
    assert (outcome.verdict, outcome.outcome) == ("bad", became), outcome.reason
    assert "suspect: pcie_aspm=off" in outcome.reason


@pytest.mark.seconds(8)
@pytest.mark.parametrize(
    ("scenario", "options", "parameters", "cmdline", "why"),
    [pytest.param(*row, marks=[pytest.mark.extended] if row in ALONE else []) for row in SKIPPED],
)
async def test_it_is_skipped_with_a_reason_where_it_cannot_be_asked(
    scenario: str, options: dict[str, Any], parameters: dict[str, Any], cmdline: str, why: str, testbed_try: Judge
) -> None:
    outcome = await testbed_try(scenario, options=options, parameters=parameters, cmdline=cmdline)
    assert outcome.verdict == "skip", outcome.reason
    assert why in outcome.reason
    assert outcome.hint


@pytest.mark.seconds(15)
@pytest.mark.parametrize("topology", ["root", pytest.param("pci-bridge", marks=pytest.mark.extended)])
async def test_osc_is_no_fault_of_a_slot_that_acpi_serves(topology: str, testbed_try: Judge) -> None:
    outcome = await testbed_try("multifunction-unplug", "i440fx", parameters={"topology": topology})
    osc = next(each for each in outcome.findings if each.subject == "_OSC: OS supports")
    assert (outcome.verdict, osc.observed) == ("good", "lacks ExtendedConfig")
    assert osc.expected.startswith("any")


@pytest.mark.seconds(12)
async def test_each_witness_says_when_it_saw_the_disk_go(testbed_try: Judge) -> None:
    outcome = await testbed_try("disk-unplug", parameters=NATIVE)
    seen = {finding.subject: finding.observed for finding in outcome.findings}
    times = {name: float(words.split()[-2]) for name, words in seen.items() if " after " in words}
    assert set(times) == {"QMP event", "QEMU device tree", "guest sysfs"}
    # pciehp takes the device from the kernel first, and then the power from the slot
    assert 5.0 <= times["guest sysfs"] < times["QEMU device tree"] <= times["QMP event"] < 8.0


async def test_a_disk_that_does_not_come_is_awaited_for_its_time(testbed_boot: BootFactory) -> None:
    async with testbed_boot("i440fx") as guest:
        await guest.load_modules(*device_kind("virtio-blk").modules)
        assert await await_disk(guest, "dev1", seconds=10)
        began = await guest.shell.clock()
        assert not await await_disk(guest, "dev", seconds=2), "a serial number is matched as a whole"
        assert 2 <= await guest.shell.clock() - began < 10


@pytest.mark.seconds(15)
async def test_a_leak_and_a_lost_write_are_noticed(testbed_boot: BootFactory) -> None:
    async with testbed_boot("i440fx") as guest:
        await guest.load_modules(*device_kind("virtio-blk").modules)
        before = await take_inventory(guest)
        parts = hot_device("virtio-blk", Slot(bus="pci.0", addr="0x10"))
        await plug(guest, parts)
        assert await await_disk(guest, "hot1", seconds=10)
        await guest.machine.qmp.execute("chardev-add", {"id": "left", "backend": {"type": "null", "data": {}}})
        leaked = (await take_inventory(guest)).more_than(before)
        assert leaked["QEMU peripheral"] == ["hot1"]
        assert leaked["QEMU chardevs"] == ["left"]
        assert {"PCI functions", "block devices", "interrupts", "QEMU block nodes"} <= set(leaked)

        writers = await start_writers(guest, "hot1", first=0, blocks=64, writers=2)
        await guest.shell.sleep(0.5)
        await writers.stop()
        written = await writers.reports()
        image = guest.machine.rundir / "hot1-disk.raw"
        assert min(each.done for each in written) > 0
        assert "all there" in (await check_image(written, image)).observed
        with image.open("r+b") as file:
            file.write(bytes(BLOCK))
        assert "lost in 1 blocks, the first is 0" in (await check_image(written, image)).observed

        await unplug(guest, "hot1")
        await release_backends(guest.machine, parts)
        await guest.machine.qmp.execute("chardev-remove", {"id": "left"})
        assert (await take_inventory(guest)).more_than(before) == {}


@pytest.mark.seconds(20)
async def test_a_removal_that_the_guest_could_not_make_is_no_verdict(
    testbed_try: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under an SVM that TCG emulates the access to a port ends its process: the disk was not asked for at all."""

    async def no_access(*_: object, **__: object) -> tuple[str, str]:
        return "kill -SEGV $$", "a write that does not happen"

    monkeypatch.setattr("testbed.scenarios.disk_surprise_removal.surprise_command", no_access)
    outcome = await testbed_try("disk-surprise-removal", machine="q35", cmdline="quiet")
    assert (outcome.verdict, outcome.outcome) == ("broken", "broken"), outcome.reason
    assert "nothing was taken away" in outcome.reason

"""Scenarios device-plug and device-unplug: devices of every bus and kind, and what refuses or crashes at them.

What BARs and bus numbers are needed for, the cases large-bar-hot-added and bridge-without-bus-number ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from testbed.guest.pci import address_of
from testbed.machine.unread import channel_log
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.pytest_plugin import BootFactory, Judge

#: several controllers, so that what has no slot of its own has a place
CONTROLLERS = {"ports": 5, "hotplug": "acpi", "devices": ["virtio-blk", "virtio-scsi", "xhci"], "luns": 2}
RESERVING = {"ports": 2, "hotplug": "native", "port_properties": {"bus-reserve": 4}}

#: scenario, its options, and words of a finding
ON_CONTROLLERS: list[tuple[str, dict[str, Any], str]] = [
    ("device-plug", {"driver": "scsi-hd", "count": 2}, "64 KiB written and read back"),
    ("device-plug", {"driver": "usb-storage", "slot": "dev3"}, "bound to usb-storage, sd"),
    ("device-plug", {"driver": "usb-kbd"}, "bound to usbhid"),
    ("device-plug", {"driver": "pci-serial"}, "is bound to serial"),
    ("device-unplug", {"driver": "scsi-hd", "count": 2}, "gone after"),
    ("device-unplug", {"driver": "usb-storage"}, "gone after"),
    ("device-unplug", {"slot": "rp1"}, "gone after"),
]

EXTENDED: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("device-plug", {"functions": 3}, "q35", {"hotplug": "native"}),
    ("device-plug", {"driver": "e1000", "count": 2, "slot": "pci.0:0x11"}, "i440fx", {}),
    ("device-unplug", {"driver": "virtio-net", "functions": 2}, "i440fx", {}),
    ("device-unplug", {"driver": "pcie-pci-bridge", "behind": ["virtio-blk"]}, "q35", RESERVING),
]


@pytest.mark.seconds(15)
@pytest.mark.parametrize(("scenario", "options", "words"), ON_CONTROLLERS)
async def test_what_stands_on_a_controllers_bus_comes_and_goes(
    scenario: str, options: dict[str, Any], words: str, testbed_try: Judge
) -> None:
    outcome = await testbed_try(scenario, options=options, parameters=CONTROLLERS)
    assert outcome.verdict == "good", outcome.reason
    assert any(words in finding.observed for finding in outcome.findings)


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize(("scenario", "options", "machine", "parameters"), EXTENDED)
async def test_functions_and_what_is_behind_a_bridge_come_and_go(
    scenario: str, options: dict[str, Any], machine: str, parameters: dict[str, Any], testbed_try: Judge
) -> None:
    outcome = await testbed_try(scenario, machine, options=options, parameters=parameters)
    assert outcome.verdict == "good", outcome.reason
    # a bridge and what is behind it, or all functions
    assert outcome.reason.startswith("all ")


@pytest.mark.extended
@pytest.mark.seconds(20)
async def test_a_switch_is_refused_by_qemu_once_something_is_to_be_behind_it(testbed_try: Judge) -> None:
    options = {"driver": "x3130-upstream", "behind": ["virtio-blk"]}
    outcome = await testbed_try("device-plug", options=options, parameters=RESERVING)
    assert (outcome.verdict, outcome.outcome) == ("bad", "refused"), outcome.reason
    assert "does not support hotplugging" in outcome.reason


@pytest.mark.extended
@pytest.mark.seconds(20)
async def test_a_device_that_nobody_sees_is_ignored_and_cannot_be_taken_out(testbed_try: Judge) -> None:
    deaf: dict[str, Any] = {"parameters": {"hotplug": "native"}, "cmdline": "pcie_aspm=off"}
    plugged = await testbed_try("device-plug", options={"driver": "nvme", "seconds": 3}, **deaf)
    assert (plugged.verdict, plugged.outcome, plugged.guest_seconds) == ("bad", "ignored", 3.0), plugged.reason
    gone = await testbed_try("device-unplug", options={"driver": "nvme", "seconds": 3}, **deaf)
    assert (gone.verdict, gone.outcome) == ("bad", "taken-away"), gone.reason


@pytest.mark.extended
@pytest.mark.seconds(30)
@pytest.mark.parametrize(
    ("machine", "parameters"), [("sriov", {"pf": "nvme"}), ("level1", {"devices": ["e1000e"], "free_slots": 2})]
)
async def test_the_free_slots_of_the_other_templates_take_a_device_and_let_it_go(
    machine: str, parameters: dict[str, Any], testbed_try: Judge
) -> None:
    for scenario, outcome in (("device-plug", "present"), ("device-unplug", "deleted")):
        judged = await testbed_try(scenario, machine, parameters=parameters, options={"driver": "nvme", "slot": "rp3"})
        assert (judged.verdict, judged.outcome) == ("good", outcome), judged.reason
        assert "0000:" in judged.reason


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize(("machine", "parameters"), [("q35", {"hotplug": "acpi"}), ("i440fx", {})])
async def test_devices_are_numbered_as_the_firmware_numbers_its_own(
    machine: str, parameters: dict[str, Any], testbed_boot: BootFactory
) -> None:
    devices = {"devices": ["virtio-blk", "e1000"]}
    for wanted in (True, False):
        async with testbed_boot(machine, parameters={**parameters, **devices, "acpi_index": wanted}) as guest:
            for number in (1, 2):
                folder = (await address_of(guest.machine, f"dev{number}")).sysfs
                read = await guest.shell.run(f"cat {folder}/acpi_index")
                assert (read.status, read.text) == ((0, str(number)) if wanted else (1, "")), read.error


@pytest.mark.extended
@pytest.mark.seconds(45)
@pytest.mark.parametrize(
    ("scenario", "cell", "outcome", "words"),
    [
        ("device-plug", {"options": {"driver": "nvme", "load": "net"}}, "present", "frames lost 0 of"),
        ("device-plug", {"options": {"driver": "nvme", "load": "io", "count": 2}}, "present", "all there"),
        ("device-unplug", {"options": {"driver": "e1000e", "load": "io"}}, "deleted", "all there"),
        # the disk is in function 1 of the slot: it goes with function 0, and nobody had asked for it
        (
            "device-unplug",
            {"options": {"driver": "e1000e", "load": "io"}, "parameters": {"functions": 2}},
            "write-failed",
            "all there",
        ),
        ("device-unplug", {"options": {"driver": "virtio-blk", "load": "io"}}, "deleted", "all there"),
        (
            "device-unplug",
            {"options": {"driver": "virtio-blk", "load": "io"}, "cmdline": "pcie_aspm=off"},
            "ignored",
            "all there",
        ),
    ],
)
async def test_a_disk_or_a_card_is_kept_busy_while_devices_come_and_go(
    scenario: str, cell: dict[str, Any], outcome: str, words: str, testbed_try: Judge
) -> None:
    parameters = {"hotplug": "native", "devices": ["e1000e", "virtio-blk"], **cell.get("parameters", {})}
    judged = await testbed_try(scenario, **{**cell, "parameters": parameters})
    assert judged.outcome == outcome, judged.reason
    assert (judged.verdict == "good") == (outcome in ("present", "deleted"))
    assert words in judged.reason
    assert (judged.time, judged.start) == ("real", "fresh")


#: drivers that the shipped recipe leaves out
CARDS = """\
description: Debian's kernel with the drivers of further network cards
kernel: apt:linux-image-amd64
modules: [virtio_pci, virtio_blk, 8139cp, vmxnet3, "8250"]
tools: [lspci, setpci]
"""


@pytest.mark.extended
@pytest.mark.seconds(60)
@pytest.mark.parametrize("driver", ["rtl8139", "vmxnet3"])
async def test_a_card_without_a_short_name_is_proven_by_a_frame_if_the_image_has_its_driver(
    driver: str, testbed_try: Judge, tmp_path: Path
) -> None:
    (tmp_path / "cards.yaml").write_text(CARDS)
    options = {"driver": driver}
    driven = await testbed_try("device-plug", options=options, image=str(tmp_path / "cards.yaml"))
    assert driven.verdict == "good", driven.reason
    assert any(each.subject == "network card hot1" and "eth0: carrier" in each.observed for each in driven.findings)
    # the shipped image has no driver for it
    undriven = await testbed_try("device-plug", options=options)
    assert undriven.verdict == "good", undriven.reason
    assert "the image has none for it" in undriven.reason


async def test_what_cannot_be_added_is_told_before_a_guest_boots(testbed_try: Judge) -> None:
    with pytest.raises(InputError, match="needs a memory backend"):
        await testbed_try("device-plug", options={"driver": "ivshmem-plain"})


#: SeaBIOS says on the debug port what it does, some kilobytes of it
DEBUG_CONSOLE = """\
description: q35 with the firmware's debug console
parameters: {}
---
machine_type: q35
channels: [debug]
devices:
  - {driver: isa-debugcon, id: debugcon, properties: {iobase: 0x402, chardev: debug}}
"""


@pytest.mark.seconds(15)
async def test_a_channel_that_nobody_reads_does_not_stop_the_machine(testbed_boot: BootFactory, tmp_path: Path) -> None:
    template = tmp_path / "debug.yaml.j2"
    template.write_text(DEBUG_CONSOLE)
    async with testbed_boot(str(template)) as guest:
        log = channel_log(guest.machine.rundir, "debug")
        assert b"SeaBIOS" in log.read_bytes()

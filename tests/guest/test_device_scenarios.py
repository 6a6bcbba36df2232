"""Scenarios device-plug and device-unplug: devices of every bus and kind, and what refuses or crashes at them.

What BARs and bus numbers are needed for, the cases large-bar-hot-added and bridge-without-bus-number ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

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

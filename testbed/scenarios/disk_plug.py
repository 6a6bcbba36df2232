"""Scenario disk-plug, and the disk that the plug scenarios add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import plug
from testbed.guest.disk import MODULES
from testbed.guest.hotplug_control import read_control
from testbed.model.spec import Device, Disk
from testbed.scenarios.hotplug_judgement import judge_plug
from testbed.scenarios.scenario import scenario
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.model.spec import Slot
    from testbed.scenarios.trial import Trial


def hot_disk(slot: Slot) -> tuple[Device, Disk]:
    """Return a disk for a free slot, and what stands behind it."""
    disk = Disk(id="hot1-disk")
    properties: dict[str, str | int | bool] = {"drive": disk.id, "serial": "hot1"}
    device = Device(driver="virtio-blk-pci", id="hot1", bus=slot.bus, addr=slot.addr, properties=properties)
    return device, disk


@scenario(modules=MODULES, warp_safe=True)
async def disk_plug(trial: Trial) -> Judgement:
    """Does a disk that is added while the guest runs appear and work?"""
    slot = free_slot(trial.spec)
    device, disk = hot_disk(slot)
    control = await read_control(trial.guest, slot)
    trial.stimulus(f"device_add {device.driver} {device.id} on {slot.bus}")
    result = await plug(trial.guest, device, disk=disk, seconds=trial.deadline)
    return await judge_plug(trial, result, control, device)

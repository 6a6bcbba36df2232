"""Scenarios disk-unplug, nic-unplug and nvme-unplug: the first cold-plugged device of a kind is asked to go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.unplug import unplug
from testbed.guest.hotplug_control import read_control
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES, cold_device

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE)
async def disk_unplug(trial: Trial) -> Judgement:
    """Does the guest release a disk when asked?"""
    return await _unplug_first(trial, "disk")


@scenario(warp_safe=True, patience=PATIENCE)
async def nic_unplug(trial: Trial) -> Judgement:
    """Does the guest release a network card when asked?"""
    return await _unplug_first(trial, "nic")


@scenario(warp_safe=True, patience=PATIENCE)
async def nvme_unplug(trial: Trial) -> Judgement:
    """Does the guest release an NVMe disk when asked?"""
    return await _unplug_first(trial, "nvme")


async def _unplug_first(trial: Trial, kind: str) -> Judgement:
    device = await cold_device(trial, kind)
    control = await read_control(trial.guest, device)
    trial.stimulus(f"device_del {device.id}")
    result = await unplug(trial.guest, device.id, seconds=trial.deadline)
    return await judge_unplug(trial, result, control)

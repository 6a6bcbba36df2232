"""Scenario nic-unplug."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.unplug import unplug
from testbed.guest.hotplug_control import read_control
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import cold_device

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial


@scenario(warp_safe=True)
async def nic_unplug(trial: Trial) -> Judgement:
    """Does the guest release a network card when asked?"""
    device = await cold_device(trial, "virtio-net", "e1000", "e1000e", "igb")
    control = await read_control(trial.guest, device)
    trial.stimulus(f"device_del {device.id}")
    result = await unplug(trial.guest, device.id, seconds=trial.deadline)
    return await judge_unplug(trial, result, control)

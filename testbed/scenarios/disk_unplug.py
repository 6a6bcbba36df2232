"""Scenario disk-unplug."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.unplug import unplug
from testbed.guest.disk import MODULES, prove_disk
from testbed.guest.hotplug_control import read_control
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.scenario import scenario
from testbed.scenarios.trial import first_disk, proven

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial


@scenario(modules=MODULES, warp_safe=True)
async def disk_unplug(trial: Trial) -> Judgement:
    """Does the guest release a disk when asked?"""
    disk = first_disk(trial.spec)
    proven(await prove_disk(trial.guest, disk.id), disk.id)
    control = await read_control(trial.guest, disk)
    trial.stimulus(f"device_del {disk.id}")
    result = await unplug(trial.guest, disk.id, seconds=trial.deadline)
    return await judge_unplug(trial, result, control)

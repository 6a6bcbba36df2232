"""Scenario disk-unplug-after-rescan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import rescan
from testbed.actions.unplug import unplug
from testbed.guest.disk import MODULES, await_disk, prove_disk
from testbed.scenarios.disk_plug_after_rescan import plugged_unaided
from testbed.scenarios.hotplug_judgement import PROBE_SECONDS, judge_unplug
from testbed.scenarios.scenario import scenario
from testbed.scenarios.trial import proven

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial


@scenario(modules=MODULES, warp_safe=True)
async def disk_unplug_after_rescan(trial: Trial) -> Judgement:
    """Does the guest release a disk that it found by a rescan?"""
    device, _, control, _ = await plugged_unaided(trial)
    await rescan(trial.guest)
    await await_disk(trial.guest, device.id, seconds=PROBE_SECONDS)
    proven(await prove_disk(trial.guest, device.id), device.id)
    trial.stimulus(f"device_del {device.id}")
    result = await unplug(trial.guest, device.id, seconds=trial.deadline)
    return await judge_unplug(trial, result, control)

"""Scenario disk-unplug-unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import PlugOutcome
from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.disk import MODULES
from testbed.guest.hotplug_control import nobody_serves
from testbed.model.errors import UnsupportedError
from testbed.scenarios.disk_plug_after_rescan import plugged_unaided
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial


@scenario(modules=MODULES, warp_safe=True)
async def disk_unplug_unseen(trial: Trial) -> Judgement:
    """Can a disk be taken back that was added and that the guest never saw?

    QEMU from 6.2 on deletes what stands in a slot without power without asking the guest (0d33415a4eaf).
    """
    device, _, control, unaided = await plugged_unaided(trial)
    if unaided.outcome is not PlugOutcome.IGNORED:
        raise UnsupportedError("the guest saw the disk", hint="make it deaf: --cmdline pcie_aspm=off -p hotplug=native")
    trial.stimulus(f"device_del {device.id}, which the guest has not seen")
    result = await unplug(trial.guest, device.id, seconds=trial.deadline)
    good = result.outcome is UnplugOutcome.DELETED
    judgement = await judge_unplug(trial, result, control)
    if result.outcome is UnplugOutcome.LEFT_IN_QEMU:  # it never was in the guest
        reason = f"QEMU waits for the guest: {nobody_serves(control)}"
        return judgement.model_copy(update={"outcome": UnplugOutcome.IGNORED.value, "reason": reason})
    reason = f"QEMU deleted it without asking the guest, {result.settled:.1f} s after the request"
    return judgement.model_copy(update={"reason": reason}) if good else judgement

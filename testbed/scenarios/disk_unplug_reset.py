"""Scenario disk-unplug-reset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.unplug import EVENTS, UnplugOutcome, unplug, watched
from testbed.guest.hotplug_control import read_control
from testbed.guest.pci import address_of
from testbed.guest.reset import reset
from testbed.model.errors import UnsupportedError
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.load import start_load
from testbed.scenarios.load_kinds import Fate
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import DISK_MODULES, cold_device

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial

#: guest seconds after which an unplug counts as ignored; a slow slot driver needs seven
_IGNORED_SECONDS = 10.0
#: guest seconds after the boot in which the disk may still go, unless told otherwise
_AFTER_SECONDS = 10


@scenario(modules=DISK_MODULES, warp_safe=True, patience=_AFTER_SECONDS, loads=("io",))
async def disk_unplug_reset(trial: Trial) -> Judgement:
    """Does a reset of the machine complete an unplug that the guest ignored?

    It needs a guest that ignores the request: pcie_aspm=off for native hot-plug, acpiphp.disable=1 for ACPI's.
    """
    guest = trial.guest
    disk = await cold_device(trial, "disk")
    control = await read_control(guest, disk)
    address = await address_of(guest.machine, disk.id)
    before = await unplug(guest, disk.id, seconds=_IGNORED_SECONDS)
    if before.outcome is not UnplugOutcome.IGNORED:
        hint = "make the guest ignore it: --cmdline pcie_aspm=off, or acpiphp.disable=1 where ACPI serves the slots"
        raise UnsupportedError(f"the guest did not ignore the unplug: {before.outcome}", hint=hint)
    load = await start_load(trial, disk)
    await load.mark()
    trial.stimulus(f"system_reset, with the unplug of {disk.id} pending")
    with guest.machine.qmp.listen(*EVENTS, device=disk.id) as answer:
        async with reset(guest):
            pass
        async with watched(guest, {disk.id: (address, answer)}, seconds=trial.deadline) as going:
            result = (await going.over())[0]
    judgement = await judge_unplug(trial, result, control)
    gone = result.outcome is UnplugOutcome.DELETED
    reason = f"the reset removed {disk.id}" if gone else f"{disk.id} is still there after the reset: {judgement.reason}"
    return await load.judged(judgement.model_copy(update={"reason": reason}), Fate.RESET)

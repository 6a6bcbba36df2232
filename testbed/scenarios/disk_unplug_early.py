"""Scenario disk-unplug-early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.unplug import EVENTS, UnplugOutcome, refused, unplug, watched
from testbed.guest.hotplug_control import read_control
from testbed.guest.pci import address_of
from testbed.guest.reset import reset
from testbed.model.errors import RefusedError
from testbed.model.outcome import Finding, Judgement
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES, cold_device, load_driver

if TYPE_CHECKING:
    from testbed.actions.unplug import Unplugged
    from testbed.scenarios.trial import Trial


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE)
async def disk_unplug_early(trial: Trial) -> Judgement:
    """Is an unplug requested while the guest boots carried out once it has booted?

    The disk is proven in a first boot. Then the machine is reset, and asked when its firmware has set up PCI: no slot
    driver is there to hear it. Native hot-plug keeps the request as a pressed button in the slot's status register; an
    ACPI event is cleared when the guest's ACPI starts.
    """
    guest = trial.guest
    disk = await cold_device(trial, "disk")
    address = await address_of(guest.machine, disk.id)
    trial.stimulus(f"system_reset, and device_del {disk.id} while the guest boots")
    with guest.machine.qmp.listen(*EVENTS, device=disk.id) as answer:
        refusal = None
        async with reset(guest):
            try:
                await guest.machine.qmp.execute("device_del", {"id": disk.id})
            except RefusedError as error:
                refusal = error
            request = guest.machine.qmp.last_reply
        await load_driver(trial, disk)
        control = await read_control(guest, disk)
        if refusal:
            return await judge_unplug(trial, refused(disk.id, refusal, guest.shell.seconds), control)
        async with watched(guest, {disk.id: (address, answer)}, seconds=trial.deadline, request=request) as going:
            result = (await going.over())[0]
    judgement = await judge_unplug(trial, result, control)
    if result.outcome is UnplugOutcome.DELETED:
        reason = f"requested before the slot driver was there, {judgement.reason}"
        return judgement.model_copy(update={"reason": reason})
    return await _asked_again(trial, disk.id, result, judgement)


async def _asked_again(trial: Trial, device_id: str, result: Unplugged, judgement: Judgement) -> Judgement:
    """Find out whether the request was lost: a guest that serves the slot obeys a request that reaches it."""
    again = await unplug(trial.guest, device_id, seconds=trial.deadline)
    lost = again.outcome is UnplugOutcome.DELETED and result.outcome is UnplugOutcome.IGNORED
    finding = Finding(
        subject="asked again, after the boot",
        expected="any",
        observed=f"{again.outcome}" + (f" after {again.latency:.1f} s" if again.latency is not None else ""),
        evidence=again.findings[0].evidence,
    )
    update: dict[str, object] = {"findings": (*judgement.findings, finding)}
    if lost:
        reason = f"the request was lost: asked again after the boot, the guest released it ({finding.observed})"
        update |= {"outcome": "lost", "reason": reason}
    return judgement.model_copy(update=update)

"""Scenario disk-eject."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import add_device, rescan
from testbed.actions.unplug import UnplugOutcome, removal
from testbed.guest.device_proof import await_device, prove_device
from testbed.guest.hotplug_control import nobody_serves, read_control, slot_taken_away
from testbed.guest.pci import address_of
from testbed.model.device_kind import cold_parts
from testbed.model.errors import UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES, cold_device

if TYPE_CHECKING:
    from testbed.actions.unplug import Unplugged
    from testbed.guest.hotplug_control import HotplugControl
    from testbed.model.spec import Device
    from testbed.scenarios.trial import Trial

_BY = Parameter(
    type="str",
    default="power",
    choices=["power", "remove"],
    doc="power: write 0 to the slot's power file, which powers it off; remove: only the kernel forgets the disk",
)
#: guest seconds in which a disk that the kernel has forgotten would have gone from QEMU too
_FORGOTTEN_SECONDS = 5.0


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE, options={"by": _BY})
async def disk_eject(trial: Trial) -> Judgement:
    """Can the guest eject a disk by itself, and get one back in the same slot?

    Through the slot's power file QEMU deletes the disk; then the same disk is added again. After `remove` it stays in
    QEMU; then a rescan finds it.
    """
    disk = await cold_device(trial, "disk")
    control = await read_control(trial.guest, disk)
    if trial.options["by"] == "remove":
        return await _removed(trial, disk, control)
    if taken_away := slot_taken_away(control, "there is no power file"):
        raise taken_away
    if not control.served_by:
        raise UnsupportedError(f"there is no power file: {nobody_serves(control)}", hint="try -s by=remove")
    power = f"/sys/bus/pci/slots/{control.slot_name}/power"
    result = await _put_away(trial, disk, f"echo 0 > {power}", seconds=trial.deadline)
    judgement = await judge_unplug(trial, result, control)
    if result.outcome is not UnplugOutcome.DELETED:
        return judgement
    empty = await trial.guest.shell.run(f"echo 1 > {power}")
    switched = Finding(
        subject="power on, slot empty",
        expected="any",
        observed=empty.error or "accepted",
        evidence=empty.evidence,
    )
    parts = cold_parts(trial.spec, disk)
    for device in (parts.device, *parts.children):
        await add_device(trial.guest.machine, device)
    return await _with_return(trial, disk, judgement, switched, "added again")


async def _removed(trial: Trial, disk: Device, control: HotplugControl) -> Judgement:
    """Let the kernel forget the disk, which QEMU must not notice, and find it again."""
    address = await address_of(trial.guest.machine, disk.id)
    result = await _put_away(trial, disk, f"echo 1 > {address.sysfs}/remove", seconds=_FORGOTTEN_SECONDS)
    judgement = await judge_unplug(trial, result, control)
    if result.outcome is not UnplugOutcome.LEFT_IN_QEMU:
        return judgement
    good = judgement.model_copy(update={"verdict": Verdict.GOOD, "reason": "the kernel forgot it, QEMU kept it"})
    await rescan(trial.guest)
    scanned = Finding(subject="rescan", expected="any", observed="done", evidence="shell.jsonl")
    return await _with_return(trial, disk, good, scanned, "found by the rescan")


async def _put_away(trial: Trial, disk: Device, command: str, *, seconds: float) -> Unplugged:
    trial.stimulus(command)
    async with removal(trial.guest, disk.id, seconds=seconds) as going:
        request = await going.ask_guest(command)
        result = (await going.over())[0]
    await request.wait()
    return result


async def _with_return(trial: Trial, disk: Device, judgement: Judgement, how: Finding, by: str) -> Judgement:
    """Add to a judgement whether the disk came back and works."""
    await await_device(trial.guest, disk, seconds=trial.deadline)
    proof = await prove_device(trial.guest, disk)
    update = {
        "verdict": Verdict.GOOD if proof.works else Verdict.BAD,
        "outcome": judgement.outcome if proof.works else "not-back",
        "reason": f"{judgement.reason}; {by}: {proof.observed}",
        "findings": (*judgement.findings, how, proof.finding),
    }
    return judgement.model_copy(update=update)

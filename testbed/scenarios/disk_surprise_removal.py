"""Scenario disk-surprise-removal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.surprise import surprise_command, take_away
from testbed.actions.unplug import UnplugOutcome, removal
from testbed.guest.disk import find_disk
from testbed.guest.hotplug_control import read_control
from testbed.model.errors import BrokenError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES, cold_device

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.scenarios.trial import Trial

#: guest seconds in which a read of a disk that is gone must have failed
_READ_SECONDS = 10


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE)
async def disk_surprise_removal(trial: Trial) -> Judgement:
    """Does the guest notice that a disk was removed behind its slot driver's back?

    actions/surprise.py explains how it is done, and what it is not.
    """
    guest = trial.guest
    disk = await cold_device(trial, "disk")
    control = await read_control(guest, disk)
    node = await find_disk(guest, disk.id)
    command, method = await surprise_command(guest, disk, native=control.pciehp_bound)
    trial.stimulus(command)
    async with removal(guest, disk.id, seconds=trial.deadline) as going:
        commands = await take_away(going, command)
        result = (await going.over())[0]
    done = [await each.wait() for each in commands]
    if failed := next((each for each in done if each.status != 0), None):
        # under an SVM that TCG emulates a signal ends each process that accesses a port (docs/nested.md)
        raise BrokenError(f"in the guest: {failed.command}: status {failed.status}: nothing was taken away")
    judgement = await judge_unplug(trial, result, control)
    block = await _block_device(guest, node)
    findings = (
        Finding(
            subject="how it was made",
            expected="without telling the slot driver: no Presence Detect or link event, which hardware would send",
            observed=method,
            evidence=done[-1].evidence,
        ),
        *judgement.findings,
        block,
    )
    noticed = result.outcome is UnplugOutcome.DELETED and block.observed == "gone"
    reason = judgement.reason
    if result.outcome is UnplugOutcome.LEFT_IN_GUEST:
        reason = f"QEMU let go of it after {result.latency or 0:.1f} s; a ghost is left in the guest: {block.observed}"
    return judgement.model_copy(
        update={"verdict": Verdict.GOOD if noticed else Verdict.BAD, "findings": findings, "reason": reason}
    )


async def _block_device(guest: Guest, node: str) -> Finding:
    """Find out whether the block device is still there, and what a read from it does."""
    there = await guest.shell.run(f"[ -e /sys/block/{node} ]")
    observed = "gone"
    if there.status == 0:
        reading = await guest.shell.start(f"dd if=/dev/{node} of=/dev/null bs=4096 count=1 iflag=direct")
        for _ in range(_READ_SECONDS):
            await guest.shell.sleep(1)
            if reading.ended:
                break
        observed = f"{node} is still there, a read of it hangs"
        if reading.ended:
            ended = await reading.wait()
            observed = f"{node} is still there, a read of it says: {ended.error.partition(': ')[2] or ended.status}"
    return Finding(subject=f"block device {node}", expected="gone", observed=observed, evidence=there.evidence)

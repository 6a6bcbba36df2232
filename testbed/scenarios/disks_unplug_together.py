"""Scenario disks-unplug-together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.unplug import UnplugOutcome, unplug_together
from testbed.guest.hotplug_control import read_control
from testbed.model.errors import UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.scenarios.hotplug_judgement import findings_of, judge_unplug
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES, cold_devices, load_driver, prove

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.actions.unplug import Unplugged
    from testbed.scenarios.trial import Trial

#: several take this many times as long as the first of them at most, if they do not take turns
_OVERLAPPING = 1.5
#: guest seconds: shorter releases are over before the next begins, whoever takes turns
_SHORT = 2.0


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE)
async def disks_unplug_together(trial: Trial) -> Judgement:
    """Does the guest release several disks requested at once, without the requests having to take turns?"""
    disks = cold_devices(trial.spec, "disk")
    if len(disks) < 2:
        hint = "give it some: -p devices=virtio-blk,virtio-blk,virtio-blk"
        raise UnsupportedError("the machine has fewer than two cold-plugged disks", hint=hint)
    for disk in disks:
        await load_driver(trial, disk)
        await prove(trial, disk)
    control = await read_control(trial.guest, disks[0])
    trial.stimulus(f"device_del {' '.join(disk.id for disk in disks)}")
    results = await unplug_together(trial.guest, [disk.id for disk in disks], seconds=trial.deadline)
    left = [each for each in results if each.outcome is not UnplugOutcome.DELETED]
    judgement = await judge_unplug(trial, left[0] if left else results[0], control)
    findings = [*findings_of(results), *judgement.findings[len((left or results)[0].findings) :]]
    if left:
        names = ", ".join(f"{each.device_id} {each.outcome}" for each in left)
        reason = f"{len(left)} of {len(disks)} disks stayed ({names}): {judgement.reason}"
        return judgement.model_copy(update={"reason": reason, "findings": tuple(findings)})
    return _judged_by_time(results, findings)


def _judged_by_time(results: Sequence[Unplugged], findings: Sequence[Finding]) -> Judgement:
    first, last = min(each.settled for each in results), max(each.settled for each in results)
    together = last <= max(_OVERLAPPING * first, _SHORT)
    how = "together" if together else "one after the other"
    spread = Finding(
        subject="first and last disk gone",
        expected=f"the last within {_OVERLAPPING} times the first",
        observed=f"after {first:.1f} s and {last:.1f} s: {how}",
        evidence="qmp.jsonl",
    )
    return Judgement(
        verdict=Verdict.GOOD if together else Verdict.BAD,
        outcome="deleted" if together else "serialised",
        reason=f"released {len(results)} disks {how}, the first after {first:.1f} s and the last after {last:.1f} s",
        findings=(*findings, spread),
        guest_seconds=last,
    )

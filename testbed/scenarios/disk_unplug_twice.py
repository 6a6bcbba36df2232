"""Scenario disk-unplug-twice."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.unplug import UnplugOutcome, refused, removal
from testbed.guest.hotplug_control import read_control
from testbed.model.outcome import Finding, Judgement
from testbed.scenarios.hotplug_judgement import judge_unplug
from testbed.scenarios.migration import MIGRATION_OPTIONS, Migration, check_migration
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES, cold_device

if TYPE_CHECKING:
    from testbed.actions.unplug import Removal
    from testbed.scenarios.trial import Trial

#: guest seconds after the first request at which it is made again: at once; within the 5 s in which pressing the
#: attention button again cancels (PCI Express Base Specification, 6.7.1.5); and after them, while the power indicator
#: blinks because pciehp takes the device off
_MOMENTS = (0.0, 2.0, 5.6)
#: guest seconds between two looks
_STEP = 0.25


@dataclass(frozen=True, kw_only=True)
class _Again:
    """A repeated request and its reply."""

    moment: float  #: when it was due, in guest seconds after the first request
    seconds: float  #: when it was made: in real time a little later
    reply: str  #: QEMU's words
    evidence: str

    @property
    def finding(self) -> Finding:
        return Finding(
            subject=f"device_del again after {self.moment:.1f} s",
            expected="refused, or without effect",
            observed=f"after {self.seconds:.1f} s: {self.reply}",
            evidence=self.evidence,
        )


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE, check=check_migration, options=MIGRATION_OPTIONS)
async def disk_unplug_twice(trial: Trial) -> Judgement:
    """Does the guest release a disk if asked a second time while it is releasing it?

    To pciehp the second request is a second press of the attention button, and that cancels the first. QEMU from 6.2 on
    does not pass it on (18416c62e36a), and refuses while the power indicator blinks (81124b3c7a5d).
    """
    disk = await cold_device(trial, "disk")
    control = await read_control(trial.guest, disk)
    migration = Migration(trial)
    await migration.before()
    then = migration.pending()
    trial.stimulus(f"device_del {disk.id}, and again while it is being released")
    async with removal(trial.guest, disk.id, seconds=trial.deadline) as going:
        async with trial.guest.stopped() if then else contextlib.nullcontext():
            if refusal := await going.ask(disk.id):
                return await judge_unplug(trial, refused(disk.id, refusal, going.limit.started), control)
            if then:
                await then()
        again = await _ask_again(going, disk.id)
        result = (await going.over())[0]
    judgement = migration.told(await judge_unplug(trial, result, control))
    replies = ", ".join(f"after {each.seconds:.1f} s {each.reply}" for each in again)
    deleted = result.outcome is UnplugOutcome.DELETED
    what = "released all the same" if deleted else "asked twice, and not released"
    update: dict[str, object] = {
        "reason": f"{what} ({replies}): {judgement.reason}",
        "findings": (*(each.finding for each in again), *judgement.findings),
    }
    if result.outcome is UnplugOutcome.IGNORED and control.served_by:
        update["outcome"] = "cancelled"
    return judgement.model_copy(update=update)


async def _gone_before(going: Removal, moment: float) -> bool:
    """Let the guest live until this many seconds after the first request; return whether the device went meanwhile."""
    while not await going.look(0):
        left = going.limit.started + moment - going.limit.seconds
        if left <= 0:
            return False
        await going.limit.live(min(left, _STEP))
    return True


async def _ask_again(going: Removal, device_id: str) -> list[_Again]:
    """Repeat the request at each moment, with the guest held, until the device is gone."""
    replies: list[_Again] = []
    for moment in _MOMENTS:
        if await _gone_before(going, moment):
            break
        refusal = await going.ask(device_id)
        replies.append(
            _Again(
                moment=moment,
                seconds=going.limit.seconds - going.limit.started,
                reply=refusal.description if refusal else "accepted",
                evidence=refusal.evidence if refusal else going.request,
            )
        )
    return replies

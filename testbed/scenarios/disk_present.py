"""Scenario disk-present."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.guest.disk import MODULES, await_disk, prove_disk
from testbed.model.outcome import Judgement, Verdict
from testbed.scenarios.hotplug_judgement import PROBE_SECONDS
from testbed.scenarios.scenario import scenario
from testbed.scenarios.trial import first_disk

if TYPE_CHECKING:
    from testbed.scenarios.trial import Trial


@scenario(modules=MODULES, fresh=True)
async def disk_present(trial: Trial) -> Judgement:
    """Does a disk that was there at boot work in the guest?"""
    disk = first_disk(trial.spec)
    trial.stimulus(f"use disk {disk.id}")
    await await_disk(trial.guest, disk.id, seconds=PROBE_SECONDS)
    proof = await prove_disk(trial.guest, disk.id)
    return Judgement(
        verdict=Verdict.GOOD if proof.works else Verdict.BAD,
        outcome="present" if proof.works else "dead" if proof.node else "absent",
        reason=proof.observed,
        findings=(proof.finding,),
    )

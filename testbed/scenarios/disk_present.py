"""Scenario disk-present."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.guest.disk import await_disk, prove_disk
from testbed.guest.hotplug_control import control_findings, read_control, slot_driver_words
from testbed.model.outcome import Judgement, Verdict
from testbed.scenarios.hotplug_judgement import PROBE_SECONDS, slot_driver_findings
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import first_cold, load_driver

if TYPE_CHECKING:
    from testbed.scenarios.trial import Trial

#: what pciehp says of a slot that it finds empty, or empties
_TAKEN = r"Card not present|Already disabled|Link Down|Powering off"


@scenario(fresh=True, patience=PROBE_SECONDS)
async def disk_present(trial: Trial) -> Judgement:
    """Does a disk that is present at boot work in the guest?"""
    disk = first_cold(trial.spec, "disk")
    await load_driver(trial, disk)
    trial.stimulus(f"use disk {disk.id}")
    await await_disk(trial.guest, disk.id, seconds=trial.deadline)
    proof = await prove_disk(trial.guest, disk.id)
    control = await read_control(trial.guest, disk)
    port = str(control.place.port)
    records = await slot_driver_words(trial.guest, after=-1)
    words = [each for each in records if port in each.text and re.search(_TAKEN, each.text)]
    quoted = "; ".join(f"{each.text} ({each.reference})" for each in words[-2:])
    return Judgement(
        verdict=Verdict.GOOD if proof.works else Verdict.BAD,
        outcome="present" if proof.works else "dead" if proof.node else "absent",
        reason=proof.observed if proof.works or not quoted else f"{proof.observed}: {quoted}",
        findings=(proof.finding, *control_findings(control), *slot_driver_findings(words)),
    )

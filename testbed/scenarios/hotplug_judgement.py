"""What a plug or unplug means: verdict and reason from the witnesses and from who serves the slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import PlugOutcome
from testbed.actions.unplug import UnplugOutcome
from testbed.guest.device_proof import await_device, prove_device
from testbed.guest.hotplug_control import control_findings, slot_driver_words, why_ignored, why_served
from testbed.model.device_kind import device_kind
from testbed.model.outcome import Finding, Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.actions.hotplug import Plugged
    from testbed.actions.unplug import Unplugged
    from testbed.guest.hotplug_control import HotplugControl
    from testbed.model.kernel_log import LogRecord
    from testbed.model.spec import Device
    from testbed.scenarios.trial import Trial

#: guest seconds from the PCI function to its block device
PROBE_SECONDS = 10


async def judge_unplug(trial: Trial, result: Unplugged, control: HotplugControl) -> Judgement:
    """Judge an unplug: good if the device is gone for every witness."""
    words = await slot_driver_words(trial.guest, after=control.log_position)
    good = result.outcome is UnplugOutcome.DELETED
    refused = result.outcome in (UnplugOutcome.REFUSED, UnplugOutcome.BUSY)
    waited = result.waited if result.latency is None else result.latency
    return Judgement(
        verdict=Verdict.GOOD if good else Verdict.BAD,
        outcome=result.outcome.value,
        reason=_unplug_reason(result, control, words),
        findings=(*result.findings, *control_findings(control), *slot_driver_findings(words)),
        guest_seconds=None if refused else waited,
    )


async def judge_plug(
    trial: Trial, result: Plugged, control: HotplugControl, device: Device, *, found_by: str = ""
) -> Judgement:
    """Judge a plug: good if the device is there and works; `found_by` says what showed it, if not the slot driver."""
    words = await slot_driver_words(trial.guest, after=control.log_position)
    findings = (*result.findings, *control_findings(control), *slot_driver_findings(words))
    if result.outcome is PlugOutcome.REFUSED:
        reason = result.findings[0].observed
        return Judgement(verdict=Verdict.BAD, outcome="refused", reason=reason, findings=findings)
    if result.outcome is PlugOutcome.IGNORED:
        reason = f"the guest did not notice the {device_kind(device.driver).noun}: {why_ignored(control, words)}"
        return Judgement(
            verdict=Verdict.BAD, outcome="ignored", reason=reason, findings=findings, guest_seconds=trial.deadline
        )
    await await_device(trial.guest, device, seconds=PROBE_SECONDS)
    proof = await prove_device(trial.guest, device)
    after = f"in sysfs after {result.latency:.1f} s" if result.latency is not None else "in sysfs"
    return Judgement(
        verdict=Verdict.GOOD if proof.works else Verdict.BAD,
        outcome="present" if proof.works else "dead",
        reason=f"{after}, {proof.observed}; {found_by or why_served(control, words)}",
        findings=(*findings, proof.finding),
        guest_seconds=result.latency,
    )


def findings_of(results: Sequence[Unplugged]) -> list[Finding]:
    """Return what was seen of several devices, each finding with its device's name."""
    return [
        finding.model_copy(update={"subject": f"{each.device_id}: {finding.subject}"})
        for each in results
        for finding in each.findings
    ]


def _unplug_reason(result: Unplugged, control: HotplugControl, words: list[LogRecord]) -> str:
    if result.outcome is UnplugOutcome.DELETED:
        return f"released after {result.latency or 0:.1f} s; {why_served(control, words)}"
    if result.outcome is UnplugOutcome.IGNORED:
        return f"the guest ignored the request: {why_ignored(control, words)}"
    if result.outcome in (UnplugOutcome.REFUSED, UnplugOutcome.BUSY):
        return result.findings[0].observed
    by = {
        UnplugOutcome.LEFT_IN_GUEST: "QEMU deleted it, the guest kept it",
        UnplugOutcome.LEFT_IN_QEMU: "the guest removed it, QEMU kept it",
    }
    return f"the witnesses disagree: {by[result.outcome]}"


def slot_driver_findings(words: list[LogRecord]) -> list[Finding]:
    """Return what the slot drivers said, the last few lines."""
    return [
        Finding(
            subject="slot driver",
            expected="a word on the request",
            observed=record.text,
            evidence=record.reference,
        )
        for record in words[-4:]
    ]

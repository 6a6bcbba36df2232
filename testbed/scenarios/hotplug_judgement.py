"""What a plug or unplug means: verdict and reason from the witnesses and from who serves the slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import PlugOutcome
from testbed.actions.unplug import UnplugOutcome
from testbed.guest.device_proof import await_device, prove_device
from testbed.guest.hotplug_control import by_hand, control_findings, slot_driver_words, why_ignored, why_served
from testbed.guest.room import read_room
from testbed.model.device_kind import BusKind, bus_kind, device_kind
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.pci import Bdf
from testbed.scenarios.room_judgement import judge_room

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


async def judge_unplug(trial: Trial, result: Unplugged, control: HotplugControl | None) -> Judgement:
    """Judge an unplug: good if the device is gone for every witness; `control` is None on a controller's bus."""
    words = await slot_driver_words(trial.guest, after=control.log_position) if control else []
    held = control_findings(control) if control else ()
    good = result.outcome is UnplugOutcome.DELETED
    refused = result.outcome in (UnplugOutcome.REFUSED, UnplugOutcome.BUSY)
    waited = result.waited if result.latency is None else result.latency
    return Judgement(
        verdict=Verdict.GOOD if good else Verdict.BAD,
        outcome=result.outcome.value,
        reason=_unplug_reason(result, control, words),
        findings=(*result.findings, *held, *slot_driver_findings(words)),
        guest_seconds=None if refused else waited,
    )


async def judge_plug(
    trial: Trial, result: Plugged, control: HotplugControl | None, device: Device, *, found_by: str = ""
) -> Judgement:
    """Judge a plug: good if the device is there, has room for its BARs and works.

    `control` is of its slot, None for a device on a controller's bus; `found_by` says what showed the device, if it was
    not the slot driver.
    """
    words = await slot_driver_words(trial.guest, after=control.log_position) if control else []
    held = control_findings(control) if control else ()
    findings = (*result.findings, *held, *slot_driver_findings(words))
    if result.outcome is PlugOutcome.REFUSED:
        reason = result.findings[0].observed
        return Judgement(verdict=Verdict.BAD, outcome="refused", reason=reason, findings=findings)
    if result.outcome is PlugOutcome.IGNORED:
        why = why_ignored(control, words) if control else "its controller's driver showed none"
        reason = f"the guest did not notice the {device_kind(device.driver).noun}: {why}"
        return Judgement(
            verdict=Verdict.BAD, outcome="ignored", reason=reason, findings=findings, guest_seconds=trial.deadline
        )
    await await_device(trial.guest, device, seconds=trial.deadline)
    proof = await prove_device(trial.guest, device)
    after = f"in sysfs after {result.latency:.1f} s" if result.latency is not None else "in sysfs"
    by = found_by or (why_served(control, words) if control else f"on {device.bus}")
    judgement = Judgement(
        verdict=Verdict.GOOD if proof.works else Verdict.BAD,
        outcome="present" if proof.works else "dead",
        reason=f"{after}, {proof.observed}; {by}",
        findings=(*findings, proof.finding),
        guest_seconds=result.latency,
    )
    if bus_kind(device.driver) is not BusKind.PCI:
        return judgement
    return judge_room(trial, judgement, await read_room(trial.guest, device), control)


def findings_of(results: Sequence[Unplugged]) -> list[Finding]:
    """Return what was seen of several devices, each finding with its device's name."""
    return [
        finding.model_copy(update={"subject": f"{each.device_id}: {finding.subject}"})
        for each in results
        for finding in each.findings
    ]


def _unplug_reason(result: Unplugged, control: HotplugControl | None, words: list[LogRecord]) -> str:
    if result.outcome is UnplugOutcome.DELETED:
        latency = result.settled if result.latency is None else result.latency
        return f"released after {latency:.1f} s" + (f"; {why_served(control, words)}" if control else "")
    if result.outcome is UnplugOutcome.IGNORED:
        why = f": {why_ignored(control, words)}" if control else ""
        return f"the guest ignored the request{why}{_way_out(control)}"
    if result.outcome in (UnplugOutcome.REFUSED, UnplugOutcome.BUSY):
        return result.findings[0].observed
    by = {
        UnplugOutcome.LEFT_IN_GUEST: "QEMU deleted it, the guest kept it",
        UnplugOutcome.LEFT_IN_QEMU: "the guest removed it, QEMU kept it",
    }
    return f"the witnesses disagree: {by[result.outcome]}"


def _way_out(control: HotplugControl | None) -> str:
    """Return how a device is released where no driver serves the slot of its PCI Express port."""
    if control is None or control.place.port is None or control.conventional or control.served_by:
        return ""
    function = Bdf(0, control.place.bus, control.place.device, 0)
    return f"; without a reset, once nothing uses it, in the guest: {by_hand(function, control.place.port)}"


def slot_driver_findings(words: list[LogRecord]) -> list[Finding]:
    """Return what the slot drivers said, the last few lines."""
    return [
        Finding(
            subject="slot driver",
            expected="a message about the request",
            observed=record.text,
            evidence=record.reference,
        )
        for record in words[-4:]
    ]

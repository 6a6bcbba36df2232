"""Scenario suspend-resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.kernel_data import compare_kernel_data
from testbed.actions.suspend import Asleep, choose_deep_sleep, suspend, wake
from testbed.guest.device_proof import await_device, prove_device
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.scenarios.hotplug_judgement import PROBE_SECONDS
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import DISK_MODULES, endpoints, prove_all

if TYPE_CHECKING:
    from testbed.actions.kernel_data import KernelData
    from testbed.actions.suspend import Awake
    from testbed.guest.shell import Result
    from testbed.scenarios.trial import Trial

_DATA = "data of the kernel"


@scenario(modules=DISK_MODULES, sleeps=True, patience=PROBE_SECONDS)
async def suspend_resume(trial: Trial) -> Judgement:
    """Does the guest resume from suspend to RAM, with all its devices working?

    It is woken with system_wakeup. Every cold-plugged device of a known kind must work before and after.
    """
    guest = trial.guest
    await prove_all(trial, endpoints(trial.spec))
    await choose_deep_sleep(guest)
    trial.stimulus("suspend to RAM, then system_wakeup")
    asleep = await suspend(guest)
    if not isinstance(asleep, Asleep):
        return _stayed_awake(asleep)
    slept = Finding(subject="QMP event", expected="SUSPEND", observed="SUSPEND", evidence=asleep.event.evidence)
    before = await compare_kernel_data(guest.machine)
    awake = await wake(guest, asleep)
    if awake.result is not None:
        return await _resumed(trial, slept, awake.result)
    after = await compare_kernel_data(guest.machine)
    return _lost(awake, slept, before, after)


def _stayed_awake(result: Result) -> Judgement:
    observed = result.error or f"status {result.status}"
    finding = Finding(subject=result.command, expected="the guest asleep", observed=observed, evidence=result.evidence)
    return Judgement(
        verdict=Verdict.BAD,
        outcome="stayed-awake",
        reason=f"the guest did not go to sleep: {observed}",
        findings=(finding,),
    )


async def _resumed(trial: Trial, slept: Finding, result: Result) -> Judgement:
    """Judge a guest that answers again by what works in it."""
    proofs = []
    for device in endpoints(trial.spec):
        await await_device(trial.guest, device, seconds=trial.deadline)
        proofs.append((device.id, await prove_device(trial.guest, device)))
    lost = [name for name, proof in proofs if not proof.works]
    good = result.status == 0 and not lost
    observed = "resumed" if result.status == 0 else f"the write ended with {result.status}: {result.error}"
    woken = Finding(subject="guest", expected="resumed", observed=observed, evidence=result.evidence)
    words = f"without {', '.join(lost)}" if lost else "all its devices work" if proofs else "it has no device to prove"
    return Judgement(
        verdict=Verdict.GOOD if good else Verdict.BAD,
        outcome="resumed" if good else "device-lost" if lost else "failed",
        reason=f"{observed}; {words}",
        findings=(slept, woken, *(proof.finding for _, proof in proofs)),
        guest_seconds=result.ended - result.started,
    )


def _lost(awake: Awake, slept: Finding, before: KernelData | None, after: KernelData | None) -> Judgement:
    """Judge a guest that did not come back, and say so if QEMU's way of starting the kernel is why."""
    if awake.reset is not None:
        outcome, observed, evidence = "reset", "it reset", awake.reset.evidence
    else:
        crash = awake.crash
        assert crash is not None, "one of the three came of the wake-up"
        outcome, observed, evidence = "never-woke", crash.message, crash.evidence
    guest = Finding(subject="guest", expected="resumed", observed=observed, evidence=evidence)
    put_back = before is not None and after is not None and before.changed and not after.changed
    start = ": started by PVH, its kernel's data were put back by QEMU as they were before the boot"
    return Judgement(
        verdict=Verdict.BAD,
        outcome=outcome,
        reason=f"woken, {observed}{start if put_back else ''}",
        findings=(slept, guest, *_data_findings(before, after)),
    )


def _data_findings(before: KernelData | None, after: KernelData | None) -> list[Finding]:
    if before is None or after is None:
        return []
    observed = f"asleep {before}, woken {after}"
    return [Finding(subject=_DATA, expected="the same", observed=observed, evidence=after.evidence)]

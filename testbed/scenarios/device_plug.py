"""Scenario device-plug: any device, in any slot, or behind a bridge or on a controller that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import add_parts, plug
from testbed.guest.hotplug_control import read_control
from testbed.model.device_kind import controller_of
from testbed.model.errors import GuestCrashedError, RefusedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.device_choice import OPTIONS, check_choice, choose
from testbed.scenarios.hotplug_judgement import judge_plug
from testbed.scenarios.load import start_load
from testbed.scenarios.load_kinds import Fate
from testbed.scenarios.room_judgement import bus_number_words
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import load_driver, prove

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.scenarios.device_choice import Step
    from testbed.scenarios.trial import Trial

_DRIVER = Parameter(
    type="str",
    default="virtio-blk",
    doc="a short name (nvme, e1000e, xhci), or a driver of QEMU's (pci-testdev, usb-kbd)",
)


@scenario(
    loads=("io", "net"),
    warp_safe=True,
    patience=PATIENCE,
    check=check_choice,
    options={"driver": _DRIVER, **OPTIONS},
)
async def device_plug(trial: Trial) -> Judgement:
    """Does a hot-plugged device of any kind appear, get its resources and work?"""
    steps = choose(trial.spec, trial.guest.machine.qemu, trial.options)
    await make_ready(trial, steps)
    load = await start_load(trial)
    await load.mark()
    more = f" and {len(steps) - 1} more" if len(steps) > 1 else ""
    trial.stimulus(f"{steps[0].words}{more}")
    try:
        judgement = await plug_steps(trial, steps)
    except GuestCrashedError as crash:
        return _crashed(trial, crash)
    return await load.judged(judgement, Fate.STAYS)


async def make_ready(trial: Trial, steps: Sequence[Step]) -> None:
    """Load the drivers of what is to be added, and prove that the controller of its bus works."""
    for step in steps:
        await load_driver(trial, step.parts.device)
    if steps[0].slot is None:
        controller = trial.spec.device(controller_of(steps[0].parts.device))
        await load_driver(trial, controller)
        await prove(trial, controller)


async def plug_steps(trial: Trial, steps: Sequence[Step]) -> Judgement:
    """Add devices one after the other, each proven before the next; the first that is not good ends it."""
    judgements: list[Judgement] = []
    unseen: list[Step] = []
    for step in steps:
        if not step.awaited:
            if refused := await _add_unseen(trial, step):
                return _of_many(steps, step, [*judgements, refused])
            unseen.append(step)
            continue
        for each in (step, *unseen):
            judgements.append(await _judged(trial, each, added=each is not step))
            if judgements[-1].verdict is not Verdict.GOOD:
                return _of_many(steps, each, judgements)
        unseen.clear()
    return _of_many(steps, steps[-1], judgements)


async def _judged(trial: Trial, step: Step, *, added: bool) -> Judgement:
    """Add a device, unless that was done, and judge what became of it."""
    control = await read_control(trial.guest, step.slot) if step.slot else None
    result = await plug(trial.guest, step.parts, seconds=trial.deadline, added=added)
    return await judge_plug(trial, result, control, step.parts.device)


async def _add_unseen(trial: Trial, step: Step) -> Judgement | None:
    """Add a function that the guest does not look at yet; return a judgement if QEMU refuses it."""
    try:
        await add_parts(trial.guest.machine, step.parts)
    except RefusedError as refusal:
        words = refusal.description
        finding = Finding(subject="QMP reply", expected="accepted", observed=words, evidence=refusal.evidence)
        return Judgement(verdict=Verdict.BAD, outcome="refused", reason=words, findings=(finding,))
    return None


def _of_many(steps: Sequence[Step], last: Step, judgements: Sequence[Judgement]) -> Judgement:
    """Return the judgement of all steps: the last one's, with what was seen of each."""
    judged = judgements[-1]
    if len(steps) == 1:
        return judged
    good = judged.verdict is Verdict.GOOD
    which = f"all {len(steps)} devices work; the last" if good else f"device {steps.index(last) + 1} of {len(steps)}"
    findings = (finding for each in judgements for finding in each.findings)
    update = {"reason": f"{which}, {last.parts.device.id}: {judged.reason}", "findings": tuple(findings)}
    return judged.model_copy(update=update)


def _crashed(trial: Trial, crash: GuestCrashedError) -> Judgement:
    """Judge a guest that a device crashed; what it said before that may tell why."""
    finding = Finding(subject="the guest", expected="to make progress", observed=crash.words, evidence=crash.evidence)
    reason, said = bus_number_words(trial) or ("", ())
    return Judgement(
        verdict=Verdict.BAD,
        outcome="crashed",
        reason=f"{reason}; then {crash}" if reason else str(crash),
        findings=(*said, finding),
    )

"""Scenario multifunction-plug, and the device of several functions that it shares with multifunction-unplug."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import add_parts, plug_parts
from testbed.guest.device_proof import await_device, prove_device
from testbed.guest.hotplug_control import read_control
from testbed.guest.pci import address_of
from testbed.machine.template import Parameter
from testbed.model.device_kind import hot_device
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.spec import Slot
from testbed.scenarios.hotplug_judgement import PROBE_SECONDS, judge_plug
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import load_driver
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from testbed.model.device_kind import DeviceParts
    from testbed.scenarios.trial import Trial

FUNCTIONS = {"functions": Parameter(type="int", default=3, min=2, max=8, doc="number of functions of the device")}
#: guest seconds in which a guest that looks at functions without function 0 would have shown them
_UNSEEN_SECONDS = 2.0


def function_parts(trial: Trial) -> list[DeviceParts]:
    """Return virtio disks as the functions of one free slot, by function number."""
    slot = free_slot(trial.spec)
    place = (slot.addr or "0x0").partition(".")[0]
    return [
        hot_device("virtio-blk", Slot(bus=slot.bus, addr=f"{place}.{number}"), device_id=f"hot{number}")
        for number in range(trial.options["functions"])
    ]


@scenario(warp_safe=True, options=FUNCTIONS)
async def multifunction_plug(trial: Trial) -> Judgement:
    """Does a device of several functions appear whole when its function 0 is added last?"""
    first, *others = function_parts(trial)
    await load_driver(trial, first.device)
    control = await read_control(trial.guest, free_slot(trial.spec))
    for parts in reversed(others):
        await add_parts(trial.guest.machine, parts)
    places = [await address_of(trial.guest.machine, parts.device.id) for parts in others]
    early = await trial.guest.shell.wait_path(places[-1].sysfs, exists=True, seconds=_UNSEEN_SECONDS)
    trial.stimulus(f"device_add {first.device.driver} {first.device.id}, function 0, after {len(others)} others")
    result = await plug_parts(trial.guest, first, seconds=trial.deadline)
    judgement = await judge_plug(trial, result, control, first.device)
    before = Finding(
        subject="before function 0",
        expected="other functions not looked at",
        observed="there" if early.came else f"not there after {_UNSEEN_SECONDS:.0f} s",
        evidence=early.evidence,
    )
    findings = [before, *judgement.findings]
    if judgement.verdict is not Verdict.GOOD:
        return judgement.model_copy(update={"findings": tuple(findings)})
    dead = []
    for parts in others:
        await await_device(trial.guest, parts.device, seconds=PROBE_SECONDS)
        proof = await prove_device(trial.guest, parts.device)
        findings.append(proof.finding)
        dead += [] if proof.works else [parts.device.id]
    whole = f"all {len(others) + 1} functions work" if not dead else f"functions without life: {' '.join(dead)}"
    update = {"findings": tuple(findings), "reason": f"{whole}; {judgement.reason}"}
    if dead:
        update |= {"verdict": Verdict.BAD, "outcome": "incomplete"}
    return judgement.model_copy(update=update)

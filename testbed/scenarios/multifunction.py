"""Scenarios multifunction-plug and multifunction-unplug: a device of several functions in one slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import PlugOutcome, add_parts, plug
from testbed.actions.unplug import UnplugOutcome, refused, removal
from testbed.guest.device_proof import await_device, prove_device
from testbed.guest.hotplug_control import read_control, slot_taken_away
from testbed.guest.pci import address_of
from testbed.model.device_kind import hot_device
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.model.spec import Slot
from testbed.scenarios.hotplug_judgement import findings_of, judge_plug, judge_unplug
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES, load_driver, prove
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.guest.hotplug_control import HotplugControl
    from testbed.model.device_kind import DeviceParts
    from testbed.scenarios.trial import Trial

_FUNCTIONS = Parameter(type="int", default=3, min=2, max=8, doc="number of functions of the device")
_ASKED = Parameter(type="int", default=0, min=0, max=7, doc="the function device_del is given")
#: guest seconds in which a guest that looks at functions without function 0 would have shown them
_UNSEEN_SECONDS = 2.0


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE, options={"functions": _FUNCTIONS})
async def multifunction_plug(trial: Trial) -> Judgement:
    """Does a multifunction device appear whole when its function 0 is plugged last?"""
    first, *others = await _functions(trial)
    control = await read_control(trial.guest, free_slot(trial.spec))
    early = await _add_others(trial, others)
    trial.stimulus(f"device_add {first.device.driver} {first.device.id}, function 0, after {len(others)} others")
    result = await plug(trial.guest, first, seconds=trial.deadline)
    judgement = await judge_plug(trial, result, control, first.device)
    judgement = judgement.model_copy(update={"findings": (early, *judgement.findings)})
    return await _with_others(trial, others, judgement) if judgement.verdict is Verdict.GOOD else judgement


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE, options={"functions": _FUNCTIONS, "asked": _ASKED})
async def multifunction_unplug(trial: Trial) -> Judgement:
    """Is a multifunction device removed as a whole when one of its functions is unplugged?"""
    if trial.options["asked"] >= trial.options["functions"]:
        raise UnsupportedError(f"there is no function {trial.options['asked']}", hint="name one below -s functions=N")
    control = await read_control(trial.guest, free_slot(trial.spec))
    ids = await _plug_all(trial, control)
    asked = ids[trial.options["asked"]]
    trial.stimulus(f"device_del {asked}, one of {len(ids)} functions")
    async with removal(trial.guest, *ids, seconds=trial.deadline) as going:
        refusal = await going.ask(asked)
        if refusal:
            return await judge_unplug(trial, refused(asked, refusal, going.limit.started), control)
        results = await going.over()
    left = [each for each in results if each.outcome is not UnplugOutcome.DELETED]
    judged = (left or results)[0]
    judgement = await judge_unplug(trial, judged, control)
    findings = (*findings_of(results), *judgement.findings[len(judged.findings) :])
    whole = f"{len(left)} of {len(results)} functions stayed" if left else f"all {len(results)} functions went"
    return judgement.model_copy(update={"findings": findings, "reason": f"{whole}: {judgement.reason}"})


async def _functions(trial: Trial) -> list[DeviceParts]:
    """Return virtio disks as the functions of one free slot, by function number; their driver is loaded."""
    slot = free_slot(trial.spec)
    place = (slot.addr or "0x0").partition(".")[0]
    functions = [
        hot_device("virtio-blk", Slot(bus=slot.bus, addr=f"{place}.{number}"), device_id=f"hot{number}")
        for number in range(trial.options["functions"])
    ]
    await load_driver(trial, functions[0].device)
    return functions


async def _plug_all(trial: Trial, control: HotplugControl) -> list[str]:
    """Plug all functions, 0 last as the guest wants it, and prove that they work; return their ids, 0 first."""
    first, *others = functions = await _functions(trial)
    for parts in reversed(others):
        await add_parts(trial.guest.machine, parts)
    plugged = await plug(trial.guest, first, seconds=trial.deadline)
    if plugged.outcome is not PlugOutcome.PRESENT:
        if taken_away := slot_taken_away(control, "the functions did not appear"):
            raise taken_away
        raise BrokenError(f"starting state: the functions could not be plugged: {plugged.findings[-1].observed}")
    for parts in functions:
        await prove(trial, parts.device)
    return [parts.device.id for parts in functions]


async def _add_others(trial: Trial, others: Sequence[DeviceParts]) -> Finding:
    """Add the functions above 0, and find out whether the guest looks at them already."""
    for parts in reversed(others):
        await add_parts(trial.guest.machine, parts)
    places = [await address_of(trial.guest.machine, parts.device.id) for parts in others]
    early = await trial.guest.shell.wait_path(places[-1].sysfs, exists=True, seconds=_UNSEEN_SECONDS)
    return Finding(
        subject="before function 0",
        expected="other functions not looked at",
        observed="there" if early.came else f"not there after {_UNSEEN_SECONDS:.0f} s",
        evidence=early.evidence,
    )


async def _with_others(trial: Trial, others: Sequence[DeviceParts], judgement: Judgement) -> Judgement:
    """Add to a good judgement whether the other functions work too."""
    proofs = {}
    for parts in others:
        await await_device(trial.guest, parts.device, seconds=trial.deadline)
        proofs[parts.device.id] = await prove_device(trial.guest, parts.device)
    dead = [device_id for device_id, proof in proofs.items() if not proof.works]
    whole = f"functions that do not work:  {' '.join(dead)}" if dead else f"all {len(others) + 1} functions work"
    update: dict[str, object] = {
        "findings": (*judgement.findings, *(proof.finding for proof in proofs.values())),
        "reason": f"{whole}; {judgement.reason}",
    }
    if dead:
        update |= {"verdict": Verdict.BAD, "outcome": "incomplete"}
    return judgement.model_copy(update=update)

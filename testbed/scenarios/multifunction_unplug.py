"""Scenario multifunction-unplug."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import PlugOutcome, add_parts, plug_parts
from testbed.actions.unplug import UnplugOutcome, refused, removal
from testbed.guest.hotplug_control import read_control
from testbed.machine.template import Parameter
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.scenarios.hotplug_judgement import findings_of, judge_unplug
from testbed.scenarios.multifunction_plug import FUNCTIONS, function_parts
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import load_driver, prove
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial

_ASKED = {"asked": Parameter(type="int", default=0, min=0, max=7, doc="the function that device_del names")}


@scenario(warp_safe=True, options={**FUNCTIONS, **_ASKED})
async def multifunction_unplug(trial: Trial) -> Judgement:
    """Does a device of several functions go whole when one of them is asked for?"""
    functions = function_parts(trial)
    if trial.options["asked"] >= len(functions):
        raise UnsupportedError(f"there is no function {trial.options['asked']}", hint="name one below -s functions=N")
    await load_driver(trial, functions[0].device)
    for parts in reversed(functions[1:]):
        await add_parts(trial.guest.machine, parts)
    plugged = await plug_parts(trial.guest, functions[0], seconds=trial.deadline)
    if plugged.outcome is not PlugOutcome.PRESENT:
        raise BrokenError(f"starting state: the functions could not be plugged: {plugged.findings[-1].observed}")
    for parts in functions:
        await prove(trial, parts.device)
    control = await read_control(trial.guest, free_slot(trial.spec))
    asked = functions[trial.options["asked"]].device.id
    trial.stimulus(f"device_del {asked}, one of {len(functions)} functions")
    async with removal(trial.guest, *(parts.device.id for parts in functions), seconds=trial.deadline) as going:
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

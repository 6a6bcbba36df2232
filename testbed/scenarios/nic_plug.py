"""Scenario nic-plug, and how a device of any kind is plugged and judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import plug_parts
from testbed.guest.hotplug_control import read_control
from testbed.machine.template import Parameter
from testbed.model.device_kind import KINDS, hot_device
from testbed.scenarios.hotplug_judgement import judge_plug
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import load_driver
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial

_CARDS = [kind.name for kind in KINDS if kind.proof == "nic"]


async def plugged_and_judged(trial: Trial, name: str) -> Judgement:
    """Plug a device of this kind into the first free slot and judge whether it appears and works."""
    slot = free_slot(trial.spec)
    parts = hot_device(name, slot)
    await load_driver(trial, parts.device)
    control = await read_control(trial.guest, slot)
    trial.stimulus(f"device_add {parts.device.driver} {parts.device.id} on {slot.bus}")
    result = await plug_parts(trial.guest, parts, seconds=trial.deadline)
    return await judge_plug(trial, result, control, parts.device)


@scenario(
    warp_safe=True,
    options={"card": Parameter(type="str", default=_CARDS[0], choices=_CARDS, doc="the card that is added")},
)
async def nic_plug(trial: Trial) -> Judgement:
    """Does a network card that is added while the guest runs appear and pass frames?"""
    return await plugged_and_judged(trial, trial.options["card"])

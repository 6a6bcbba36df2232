"""Elements that a QEMU is asked for: its machines are started, looked at and ended, and no guest runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from testbed.campaign.bisect.over_hardware import cpu_features_of, differences_of
from testbed.campaign.bisect.result import Goal
from testbed.machine.template import load_template
from testbed.model.errors import InputError
from testbed.model.outcome import Cell

if TYPE_CHECKING:
    from testbed.model.spec import MachineSpec


def cell(machine: str = "q35", **parameters: Any) -> Cell:
    return Cell(scenario="disk-unplug", machine=machine, parameters=parameters)


def spec(of: Cell) -> MachineSpec:
    return load_template(of.machine).spec(of.parameters)


def silent(text: str) -> None:
    assert text


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (cell(), cell(hotplug="native", ports=6)),
        (cell(ports=2, memory=768), cell(hotplug="native", memory=512)),
        (cell(type="pc-q35-6.1"), cell(type="pc-q35-6.0", ports=6)),
        (cell("i440fx", free_slots=1), cell(ports=6, hotplug="native")),
        (cell(hotplug="native", ports=2), cell("i440fx", hotplug="off")),
        (cell(globals={"i8042.extended-state": False}), cell(globals={"i8042.extended-state": False}, ports=3)),
    ],
    ids=str,
)
async def test_the_ends_are_just_the_machines_that_were_given(first: Cell, second: Cell) -> None:
    elements = await differences_of(first, second, progress=silent)
    assert spec(elements.cell(frozenset())) == spec(first)
    assert spec(elements.cell(elements.everything)) == spec(second)


@pytest.mark.seconds(10)
async def test_each_property_is_an_element_beside_the_machine_type() -> None:
    first, second = cell(type="pc-q35-6.1"), cell(type="pc-q35-6.0")
    elements = await differences_of(first, second, progress=silent)
    bridge_support = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support"
    assert elements.names[0] == "type=pc-q35-6.0"
    assert f"{bridge_support}=off" in elements.names
    number = elements.names.index(f"{bridge_support}=off")
    assert elements.cell(frozenset({number})).parameters == {"type": "pc-q35-6.1", "globals": {bridge_support: False}}
    without = elements.cell(elements.everything - {number})
    assert without.parameters == {"type": "pc-q35-6.0", "globals": {bridge_support: True}}
    alone = elements.cell(frozenset({0})).parameters["globals"]
    assert len(alone) == len(elements) - 1


async def test_what_cannot_be_compared_is_told() -> None:
    with pytest.raises(InputError, match="are the same"):
        await differences_of(cell(), cell(hotplug="default"), progress=silent)


@pytest.mark.parametrize("goal", list(Goal))
async def test_the_features_of_a_cpu_are_those_beyond_the_plainest(goal: Goal) -> None:
    elements = await cpu_features_of(cell(cpu="Westmere,sse4.2=off"), goal, progress=silent)
    suffix = "=off" if goal is Goal.REMEDY else ""
    assert {f"aes{suffix}", f"ssse3{suffix}"} <= set(elements.names)
    assert f"sse4.2{suffix}" not in elements.names
    number = elements.names.index(f"aes{suffix}")
    flags = elements.cell(frozenset({number})).parameters["cpu"].split(",")
    assert flags[:2] == ["Westmere", "sse4.2=off"]
    assert ("aes=off" in flags) == (goal is Goal.REMEDY)
    assert ("ssse3=off" in flags) == (goal is Goal.CULPRIT)


@pytest.mark.parametrize(("model", "told"), [("qemu64", "has none that qemu64 lacks"), ("nosuch", "nosuch")])
async def test_a_cpu_without_features_or_name_is_told(model: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        await cpu_features_of(cell(cpu=model), Goal.CULPRIT, progress=silent)

"""Elements that only QEMU can name: the features of a CPU model, and what two machines differ in.

Two machines differ in parameters, and in the device properties that their machine types bring.
The second machine has every element and the first has none. A property is set (`-global`) where it is to have another
value than the machine type brings, so that each end is just the machine that was given.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed.campaign.bisect.elements import Elements
from testbed.campaign.bisect.result import Goal
from testbed.campaign.prepared import paused_machine
from testbed.machine.cpu_model import PLAINEST, CpuModel, cpu_features
from testbed.machine.device_properties import read_properties
from testbed.machine.template import load_template
from testbed.model.errors import InputError
from testbed.model.setup import given_text
from testbed.model.value_text import value_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from testbed.campaign.bisect.result import Subset
    from testbed.model.outcome import Cell
    from testbed.model.spec import Property

_TYPE, _GLOBALS = "type", "globals"
#: name and the values it has in the first and in the second machine
Pair = tuple[Any, Any]


@dataclass(frozen=True, kw_only=True)
class _Difference:
    """All in which two machines differ."""

    first: Cell
    second: Cell
    parameters: Mapping[str, Pair]
    properties: Mapping[str, tuple[Property, Property]] = dataclasses.field(default_factory=dict)

    @property
    def templates(self) -> bool:
        return self.first.machine != self.second.machine

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """Return what each element is (template, parameter, property), and its name."""
        return [
            *([("template", self.second.machine)] if self.templates else []),
            *(("parameter", name) for name in self.parameters),
            *(("property", name) for name in self.properties),
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the elements as they would be given for the second machine."""
        seconds = {name: pair[1] for name, pair in (*self.parameters.items(), *self.properties.items())}
        return tuple(name if kind == "template" else f"{name}={value_text(seconds[name])}" for kind, name in self.kinds)

    def cell(self, subset: Subset) -> Cell:
        """Return the cell with some of the differences."""
        taken = {self.kinds[number] for number in subset}
        machine = self.second.machine if ("template", self.second.machine) in taken else self.first.machine
        known = load_template(machine).parameters
        chosen = self._common | {name: pair[("parameter", name) in taken] for name, pair in self.parameters.items()}
        # what the other template alone knows cannot be had with this one
        parameters = {
            name: value
            for name, value in chosen.items()
            if name in known and value != known[name].default and known[name].problem(value) is None
        }
        second_type = ("parameter", _TYPE) in taken or (self.templates and machine == self.second.machine)
        set_here = {
            name: pair[("property", name) in taken]
            for name, pair in self.properties.items()
            if (("property", name) in taken) != second_type
        }
        if set_here:
            parameters[_GLOBALS] = {**parameters.get(_GLOBALS, {}), **set_here}
        return self.first.model_copy(update={"machine": machine, "parameters": parameters})

    @property
    def _common(self) -> dict[str, Any]:
        """Return the parameters that both were given alike."""
        return {name: value for name, value in self.first.parameters.items() if name not in self.parameters}


async def differences_of(first: Cell, second: Cell, *, progress: Callable[[str], None]) -> Elements:
    """Return the differences of two machines; raise InputError if there is nothing to search among."""
    found = _Difference(first=first, second=second, parameters=_parameters(first, second))
    pair = f"{_named(first)} and {_named(second)}"
    if not found.kinds:
        raise InputError(f"bisect over machines: {pair} are the same", hint="give two that differ")
    notes: tuple[str, ...] = ()
    if _TYPE in found.parameters or found.templates:
        progress(f"asking QEMU in which properties {pair} differ")
        found, notes = await _with_properties(found, progress)
    if len(found.kinds) == 1 and found.templates:
        raise InputError(
            f"bisect over machines: {pair} come from different templates and have nothing else that can be compared",
            hint="give two of one template, such as: --machine q35[type=pc-q35-6.0] --machine q35[type=pc-q35-6.1]",
        )
    return Elements(over="machine", noun="difference", names=found.names, cell=found.cell, notes=notes)


def _parameters(first: Cell, second: Cell) -> dict[str, Pair]:
    """Return the parameters whose values differ; of a machine that does not have one the other's default counts."""
    cells = (first, second)
    known = [load_template(cell.machine).parameters for cell in cells]
    pairs: dict[str, Pair] = {}
    for name in dict.fromkeys([*first.parameters, *second.parameters]):
        if first.machine != second.machine and name == _TYPE:
            continue
        defaults = [each[name].default for each in known if name in each]
        here, there = (
            cell.parameters.get(name, each[name].default if name in each else defaults[0])
            for cell, each in zip(cells, known, strict=True)
        )
        if here != there:
            pairs[name] = (here, there)
    return pairs


async def _with_properties(found: _Difference, progress: Callable[[str], None]) -> tuple[_Difference, tuple[str, ...]]:
    """Add the properties that the second machine type brings; those that its parameters bring are not told twice."""
    number = next((number for number, kind in enumerate(found.kinds) if kind == ("parameter", _TYPE)), None)
    other = found.second if number is None else found.cell(frozenset({number}))
    async with paused_machine(found.first, progress=progress) as machine:
        here = await read_properties(machine)
    async with paused_machine(other, progress=progress) as machine:
        there = await read_properties(machine)
    differing = {
        name: (here[name], there[name]) for name in sorted(here.keys() & there.keys()) if here[name] != there[name]
    }
    differing = {name: pair for name, pair in differing.items() if not _is_alias(name, differing)}
    if _GLOBALS not in load_template(found.first.machine).parameters or not differing:
        return found, ()
    settable, refused = await _settable(found, differing, progress)
    note = f"QEMU does not allow setting these, so they stay with the machine type: {', '.join(refused)}"
    return dataclasses.replace(found, properties=settable), ((note,) if refused else ())


def _is_alias(name: str, differing: Mapping[str, Pair]) -> bool:
    """Return whether the PCI device around a virtio device passes the same property through."""
    driver, _, own = name.partition(".")
    outer = f"{driver.removesuffix('-device')}-pci.{own}"
    return driver.endswith("-device") and differing.get(outer) == differing[name]


async def _settable(
    found: _Difference, differing: Mapping[str, Pair], progress: Callable[[str], None]
) -> tuple[dict[str, Pair], list[str]]:
    """Return the properties that do take the other value when they are given it, and the names of those that do not."""
    left = dict(differing)
    refused: list[str] = []
    while left:
        wrong = await _wrong(found, left, progress)
        refused += wrong
        left = {name: pair for name, pair in left.items() if name not in wrong}
        if not wrong:
            break
    return left, refused


async def _wrong(found: _Difference, differing: Mapping[str, Pair], progress: Callable[[str], None]) -> Sequence[str]:
    """Give the first machine the second's properties; return those it does not have then."""
    whole = dataclasses.replace(found, properties=differing)
    numbers = [number for number, (kind, _) in enumerate(whole.kinds) if kind == "property"]
    try:
        async with paused_machine(whole.cell(frozenset(numbers)), progress=progress) as machine:
            values = await read_properties(machine)
    except InputError:
        if len(differing) == 1:
            return list(differing)
        names = list(differing)
        halves = (names[: len(names) // 2], names[len(names) // 2 :])
        return [
            name for half in halves for name in await _wrong(found, {each: differing[each] for each in half}, progress)
        ]
    return [name for name, pair in differing.items() if values.get(name) != pair[1]]


def _named(cell: Cell) -> str:
    return given_text(cell.machine, cell.parameters)


async def cpu_features_of(base: Cell, goal: Goal, *, progress: Callable[[str], None]) -> Elements:
    """Return the features of a cell's CPU; with the goal `remedy` an element is a feature turned off.

    Raises InputError if no model was given, or it has nothing beyond the plainest.
    """
    model_text = str(base.parameters.get("cpu", "auto"))
    if model_text == "auto":
        raise InputError("bisect over CPU features: no CPU model is given", hint="give one: -p cpu=max")
    model = CpuModel.parse(model_text)
    async with paused_machine(base, progress=progress) as machine:
        features = await cpu_features(machine.qmp, model) - await cpu_features(machine.qmp, CpuModel(name=PLAINEST))
    suspects = tuple(sorted(features))
    if not suspects:
        raise InputError(
            f"bisect over CPU features: {model_text} has none that {PLAINEST} lacks",
            hint="give a richer model: -p cpu=max",
        )

    def cell(subset: Subset) -> Cell:
        off = [name for number, name in enumerate(suspects) if (number in subset) == (goal is Goal.REMEDY)]
        value = ",".join([model_text, *(f"{name}=off" for name in off)])
        return base.model_copy(update={"parameters": {**base.parameters, "cpu": value}})

    names = tuple(f"{name}=off" for name in suspects) if goal is Goal.REMEDY else suspects
    return Elements(over="cpu", noun="CPU feature", names=names, cell=cell)

"""Elements of a CPU: the features that a model has beyond QEMU's plainest, as this QEMU and accelerator give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.campaign.bisect.asking import asked
from testbed.campaign.bisect.elements import Elements
from testbed.campaign.bisect.result import Goal
from testbed.machine.cpu_model import PLAINEST, CpuModel, cpu_features
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.campaign.bisect.result import Subset
    from testbed.model.outcome import Cell


async def cpu_features_of(base: Cell, goal: Goal, *, progress: Callable[[str], None]) -> Elements:
    """Return the features of a cell's CPU; with the goal `remedy` an element is a feature turned off.

    Raises InputError if no model was given, or it has nothing beyond the plainest.
    """
    given = str(base.parameters.get("cpu", "auto"))
    if given == "auto":
        raise InputError("bisect over CPU features: no CPU model is given", hint="give one: -p cpu=max")
    model = CpuModel.parse(given)
    async with asked(base, progress=progress) as machine:
        features = await cpu_features(machine.qmp, model) - await cpu_features(machine.qmp, CpuModel(name=PLAINEST))
    suspects = tuple(sorted(features))
    if not suspects:
        raise InputError(
            f"bisect over CPU features: {given} has none that {PLAINEST} has not",
            hint="give a richer model: -p cpu=max",
        )

    def cell(subset: Subset) -> Cell:
        off = [name for number, name in enumerate(suspects) if (number in subset) == (goal is Goal.REMEDY)]
        value = ",".join([given, *(f"{name}=off" for name in off)])
        return base.model_copy(update={"parameters": {**base.parameters, "cpu": value}})

    names = tuple(f"{name}=off" for name in suspects) if goal is Goal.REMEDY else suspects
    return Elements(over="cpu", noun="CPU feature", names=names, cell=cell)

"""Stock: where the things that cells name are found, each found once however many cells name it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from testbed.host.accel import Accel, choose_accel
from testbed.image.store import Image, ensure_image
from testbed.machine.qemu_choice import choose_qemu
from testbed.machine.template import Template, load_template
from testbed.scenarios.scenario import Scenario, find_scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.host.qemu import Qemu
    from testbed.model.outcome import Cell
    from testbed.model.spec import MachineSpec

    Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class StockedMachine:
    """A machine as a cell describes it."""

    template: Template
    text: str  #: the YAML it renders to
    spec: MachineSpec


class Stock(Protocol):
    """Where a cell's parts come from. All may raise InputError, and LackingError for what is not there."""

    def scenario(self, cell: Cell) -> Scenario:
        """Return the cell's scenario."""

    def machine(self, cell: Cell) -> StockedMachine:
        """Return its machine."""

    def qemu(self, cell: Cell, spec: MachineSpec) -> Qemu:
        """Return the QEMU that runs it."""

    def accel(self, cell: Cell, qemu: Qemu) -> Accel:
        """Return the accelerator."""

    def image(self, cell: Cell, progress: Progress) -> Image:
        """Return its image, built if need be."""


class HostStock:
    """What this host has. It is asked for each thing once: what changes later is not seen."""

    def __init__(self) -> None:
        self._scenarios: dict[str, Scenario] = {}
        self._machines: dict[str, StockedMachine] = {}
        self._qemus: dict[str, Qemu] = {}
        self._images: dict[str, Image] = {}

    def scenario(self, cell: Cell) -> Scenario:
        """Return the scenario of this name."""
        if cell.scenario not in self._scenarios:
            self._scenarios[cell.scenario] = find_scenario(cell.scenario)
        return self._scenarios[cell.scenario]

    def machine(self, cell: Cell) -> StockedMachine:
        """Return the rendered template."""
        key = _machine_key(cell)
        if key not in self._machines:
            template = load_template(cell.machine)
            self._machines[key] = StockedMachine(
                template=template, text=template.render(cell.parameters), spec=template.spec(cell.parameters)
            )
        return self._machines[key]

    def qemu(self, cell: Cell, spec: MachineSpec) -> Qemu:
        """Return the QEMU asked for, if it has what the machine needs."""
        key = f"{cell.qemu} {_machine_key(cell)}"
        if key not in self._qemus:
            self._qemus[key] = choose_qemu(cell.qemu, spec)
        return self._qemus[key]

    def accel(self, cell: Cell, qemu: Qemu) -> Accel:
        """Return the accelerator asked for, or the best that works."""
        return choose_accel(cell.accel, qemu)

    def image(self, cell: Cell, progress: Progress) -> Image:
        """Return the image of a recipe or kernel."""
        if cell.image not in self._images:
            self._images[cell.image] = ensure_image(cell.image, progress=progress)
        return self._images[cell.image]


def _machine_key(cell: Cell) -> str:
    return f"{cell.machine} {json.dumps(cell.parameters, sort_keys=True)}"

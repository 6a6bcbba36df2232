"""Stock: where the things that setups name are found, each found once however many setups name it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from testbed.campaign.system import find_system
from testbed.host.accel import Accel, choose_accel
from testbed.image.recipe import WHOLE, image_name
from testbed.image.store import Image, ensure_image
from testbed.machine.qemu_choice import choose_qemu
from testbed.machine.template import Rendered, Template, load_template
from testbed.scenarios.scenario import Scenario, find_scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.host.qemu import Qemu
    from testbed.machine.system_disk import SystemDisk
    from testbed.model.setup import Setup
    from testbed.model.spec import MachineSpec

    Progress = Callable[[str], None]


class Stock(Protocol):
    """Where the parts of a setup come from. All may raise InputError, and LackingError for what is not there."""

    def scenario(self, name: str) -> Scenario:
        """Return the scenario of a cell."""

    def machine(self, setup: Setup) -> StockedMachine:
        """Return the machine."""

    def qemu(self, setup: Setup, spec: MachineSpec) -> Qemu:
        """Return the QEMU that runs it."""

    def accel(self, setup: Setup, qemu: Qemu) -> Accel:
        """Return the accelerator."""

    def image(self, setup: Setup, progress: Progress) -> Image:
        """Return the image, built if need be."""

    def system(self, setup: Setup, progress: Progress) -> SystemDisk:
        """Return the disk whose own user space is to run."""


@dataclass(frozen=True, kw_only=True)
class StockedMachine:
    """A machine template, and what it renders to with the parameters of a setup."""

    template: Template
    rendered: Rendered


class HostStock:
    """What this host has. It is asked for each thing once: what changes later is not seen."""

    def __init__(self) -> None:
        self._scenarios: dict[str, Scenario] = {}
        self._machines: dict[str, StockedMachine] = {}
        self._qemus: dict[str, Qemu] = {}
        self._images: dict[str, Image] = {}
        self._systems: dict[str, SystemDisk] = {}

    def scenario(self, name: str) -> Scenario:
        """Return the scenario of this name."""
        if name not in self._scenarios:
            self._scenarios[name] = find_scenario(name)
        return self._scenarios[name]

    def machine(self, setup: Setup) -> StockedMachine:
        """Return the rendered template."""
        key = _machine_key(setup)
        if key not in self._machines:
            template = load_template(setup.machine)
            self._machines[key] = StockedMachine(template=template, rendered=template.render(setup.parameters))
        return self._machines[key]

    def qemu(self, setup: Setup, spec: MachineSpec) -> Qemu:
        """Return the QEMU asked for, if it has what the machine needs."""
        key = f"{setup.qemu} {_machine_key(setup)}"
        if key not in self._qemus:
            self._qemus[key] = choose_qemu(setup.qemu, spec)
        return self._qemus[key]

    def accel(self, setup: Setup, qemu: Qemu) -> Accel:
        """Return the accelerator asked for, or the best that works."""
        return choose_accel(setup.accel, qemu)

    def image(self, setup: Setup, progress: Progress) -> Image:
        """Return the image of a recipe or kernel."""
        name = f"{WHOLE}{image_name(setup.image)}" if setup.whole else setup.image
        if name not in self._images:
            self._images[name] = ensure_image(name, progress=progress)
        return self._images[name]

    def system(self, setup: Setup, progress: Progress) -> SystemDisk:
        """Return the disk whose user space is to run."""
        if setup.image not in self._systems:
            self._systems[setup.image] = find_system(setup.image, progress)
        return self._systems[setup.image]


def _machine_key(setup: Setup) -> str:
    return f"{setup.machine} {json.dumps(setup.parameters, sort_keys=True)}"

"""Elements of a machine's description: the template parameters that were given, or the devices among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from testbed.campaign.bisect.elements import Elements, as_given
from testbed.machine.template import load_template
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from testbed.campaign.bisect.result import Subset
    from testbed.model.outcome import Cell


def parameters_of(base: Cell) -> Elements:
    """Return the parameters given for a cell that are not their default; without them it has the template's."""
    template = load_template(base.machine)
    given = {name: value for name, value in base.parameters.items() if value != template.parameters[name].default}
    if not given:
        raise InputError(
            f"bisect over the parameters of {base.machine}: none is given that is not its default",
            hint=f"give those that may matter: -p NAME=VALUE; there are: {', '.join(template.parameters)}",
        )

    def cell(subset: Subset) -> Cell:
        kept = {name: value for number, (name, value) in enumerate(given.items()) if number in subset}
        return base.model_copy(update={"parameters": kept})

    names = tuple(f"{name}={as_given(value)}" for name, value in given.items())
    return Elements(over="parameters", noun="parameter", names=names, cell=cell)


def devices_of(base: Cell) -> Elements:
    """Return the devices given for a cell beyond the template's own, which stay: scenarios need them."""
    template = load_template(base.machine)
    if "devices" not in template.parameters:
        raise InputError(f"bisect over the devices of {base.machine}: it has no parameter `devices`")
    devices: list[Any] = list(base.parameters.get("devices", []))
    suspects = _beyond(devices, template.parameters["devices"].default)
    if not suspects:
        raise InputError(
            f"bisect over the devices of {base.machine}: none is given beyond its own",
            hint="give them: -p devices=virtio-blk,virtio-net,e1000",
        )

    def cell(subset: Subset) -> Cell:
        gone = {place for number, place in enumerate(suspects) if number not in subset}
        kept = [device for place, device in enumerate(devices) if place not in gone]
        return base.model_copy(update={"parameters": {**base.parameters, "devices": kept}})

    names = tuple(_numbered([as_given(devices[place]) for place in suspects]))
    return Elements(over="devices", noun="device", names=names, cell=cell)


def _beyond(devices: list[Any], own: list[Any]) -> list[int]:
    """Return the places of the devices that are not the template's, each of its own matched once."""
    left = list(own)
    places = []
    for place, device in enumerate(devices):
        if device in left:
            left.remove(device)
        else:
            places.append(place)
    return places


def _numbered(names: list[str]) -> list[str]:
    """Tell equal names apart: `e1000`, `e1000 (2nd)` would be two words, so `e1000#2`."""
    return [
        f"{name}#{names[: place + 1].count(name)}" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]

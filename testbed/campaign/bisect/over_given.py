"""Elements of what was given: the parts of a command line, options that may be a remedy, parameters, devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from testbed.campaign.bisect.elements import Elements, SetAside
from testbed.machine.template import load_template
from testbed.model.cmdline import CommandLine
from testbed.model.cmdline_parts import take_apart
from testbed.model.errors import InputError
from testbed.model.value_text import value_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.campaign.bisect.result import Subset
    from testbed.model.outcome import Cell

#: options known to fix something, tried where none are given. All of them together leave a q35 and an i440fx guest
#: working (QEMU 7.2, Linux 6.1), so that they can be searched.
REMEDIES = (
    "pcie_ports=native",  # the port services run whatever _OSC gave (drivers/pci/pcie/portdrv.c)
    "pciehp.pciehp_poll_mode=1",  # pciehp looks at its slots itself where their interrupt does not come
    "pci=noaer",  # no recovery, and so no reset, on reported errors
    "pci=nocrs",  # ignores the windows that ACPI tells of (arch/x86/pci/acpi.c)
    "pci=realloc",  # gives bridges larger windows: BARs of VFs and of added devices
    "iommu=pt",  # devices of the host's own are not translated
    "clearcpuid=smap",  # AMD erratum 1096: user-space MMIO under an old KVM
)


def options_of(base: Cell) -> Elements:
    """Return the parts of a cell's command line; raise InputError if there is none to take out."""
    apart = take_apart(CommandLine(base.cmdline))
    aside = tuple(SetAside(name=each.text, reason=each.reason) for each in apart.aside)
    if not apart.parts:
        problem = f"all of it is set aside: {', '.join(each.name for each in aside)}" if aside else "it is empty"
        raise InputError(
            f"bisect over the command line: {problem}",
            hint='give the whole line: --cmdline "$(cat cmdline.txt)"; or search elsewhere: --over parameters',
        )

    def cell(subset: Subset) -> Cell:
        line = apart.rebuild([part for number, part in enumerate(apart.parts) if number in subset])
        return base.model_copy(update={"cmdline": line})

    names = tuple(part.text for part in apart.parts)
    return Elements(over="cmdline", noun="option", names=names, cell=cell, aside=aside)


def remedies_for(base: Cell, candidates: Sequence[str]) -> Elements:
    """Return options that may make a bad cell good; raise InputError if every one is on its line already."""
    apart = take_apart(CommandLine(base.cmdline))
    line = CommandLine(apart.rebuild(apart.parts))
    names = tuple(dict.fromkeys(option for option in candidates if option not in line.options))
    if not names:
        raise InputError(
            "bisect for a remedy: every candidate is already on the command line",
            hint='name some: --candidates "pcie_ports=native pci=nocrs"',
        )
    aside = tuple(SetAside(name=each.text, reason=each.reason) for each in apart.aside)
    place = line.spans[len(line.options) - 1][1] if line.options else 0

    head, tail = line.text[:place], line.text[place:].strip()

    def cell(subset: Subset) -> Cell:
        added = [name for number, name in enumerate(names) if number in subset]
        text = " ".join(part for part in (head, *added, tail) if part) if added else line.text
        return base.model_copy(update={"cmdline": text})

    return Elements(over="cmdline", noun="candidate", names=names, cell=cell, aside=aside)


def parameters_of(base: Cell) -> Elements:
    """Return the parameters given for a cell that are not their default; without them it has the template's."""
    template = load_template(base.machine)
    values = {name: value for name, value in base.parameters.items() if value != template.parameters[name].default}
    if not values:
        raise InputError(
            f"bisect over the parameters of {base.machine}: all those given have their default values",
            hint=f"give those that might matter: -p NAME=VALUE; there are: {', '.join(template.parameters)}",
        )

    def cell(subset: Subset) -> Cell:
        kept = {name: value for number, (name, value) in enumerate(values.items()) if number in subset}
        return base.model_copy(update={"parameters": kept})

    names = tuple(f"{name}={value_text(value)}" for name, value in values.items())
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

    names = tuple(_numbered([value_text(devices[place]) for place in suspects]))
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

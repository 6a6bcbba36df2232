"""Elements of a command line: the parts of a customer's line, or options that may be a remedy for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.campaign.bisect.elements import Elements, SetAside
from testbed.model.cmdline import CommandLine
from testbed.model.cmdline_parts import take_apart
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.campaign.bisect.result import Subset
    from testbed.model.outcome import Cell

#: options known to mend something, tried where none are given. All of them together leave a q35 and an i440fx guest
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
        told = f"all of it is set aside: {', '.join(each.name for each in aside)}" if aside else "it is empty"
        raise InputError(
            f"bisect over the command line: {told}",
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
            "bisect for a remedy: there is no candidate that the command line does not have",
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

"""What options of the command line take from every device: extended configuration space, and MSI-X.

Seen on q35 with Linux 6.1, but for `pci=conf1`, which was read in source (arch/x86/pci/common.c).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from testbed.explain.evidence import Evidence

if TYPE_CHECKING:
    from testbed.model.cmdline import CommandLine


class Feature(enum.StrEnum):
    """What can be lost."""

    EXTENDED_CONFIG = "extended configuration space"
    MSIX = "MSI-X"


_TAKEN_BY = {
    Feature.EXTENDED_CONFIG: ("pci=nommconf", "pci=conf1", "acpi=off"),
    Feature.MSIX: ("pci=nomsi",),
}


def takers(feature: Feature, cmdline: CommandLine) -> tuple[str, ...]:
    """Return the options of a command line that take a feature away; that it is gone must be seen elsewhere."""
    evidence = Evidence(cmdline=cmdline)
    return tuple(option for option in _TAKEN_BY[feature] if evidence.has(option))

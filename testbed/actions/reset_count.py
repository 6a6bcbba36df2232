"""The resets of PCI functions and buses that a host's kernel carries out, counted, and who asked for each.

A VM's function is reset by its QEMU's ioctls: VFIO_DEVICE_RESET comes to pci_try_reset_function() (an FLR, or whatever
the function has), VFIO_DEVICE_PCI_HOT_RESET to pci_reset_bus(). Source: Linux drivers/vfio/pci/vfio_pci_core.c,
drivers/pci/pci.c.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from testbed.guest.tracing import FILE
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.guest.tracing import FtraceLine

#: those that reset a function which a VM has; a static one may have become part of its only caller
FUNCTIONS = (
    *("vfio_pci_dev_set_hot_reset", "pci_reset_bus", "pcie_flr", "pci_af_flr", "pci_pm_reset"),
    *("pci_bridge_secondary_bus_reset", "aer_root_reset"),
)
NONE = "none"


def resets_finding(lines: Sequence[FtraceLine], subject: str) -> Finding:
    """Return how often each was called, and by whom, as a finding."""
    calls = [(line, line.call) for line in lines]
    seen = [(line, *call) for line, call in calls if call and call[0] in FUNCTIONS]
    counted = Counter((function, caller) for _, function, caller in seen)
    words = [f"{function} {count} (by {caller})" for (function, caller), count in counted.items()]
    evidence = seen[0][0].evidence if seen else FILE
    return Finding(subject=subject, expected="shown as it is", observed=", ".join(words) or NONE, evidence=evidence)

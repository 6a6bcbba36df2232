"""Why QEMU would not start a VM, or add a device to it: its words, and who is in the way.

Each was provoked: the cases `vfio-device-add` and `image-in-use`. The log of a QEMU that did not start was seen to
have each; what QMP refuses is told to whoever asked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.explain.service import CITED
from testbed.explain.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.explain.evidence import Evidence

#: a line of QEMU's and what it means; `{}` are the pattern's groups
_REFUSALS = (
    (
        re.compile(r"vfio ([0-9a-f:.]{7,15}): failed to open (/dev/vfio/[0-9]{1,6}): Device or resource busy"),
        "QEMU was refused {}: another process has {} open (ls -l /proc/*/fd shows which); once it has "
        "ended the same request is taken",
    ),
    (
        re.compile(r"vfio ([0-9a-f:.]{7,15}): group ([0-9]{1,6}) is not viable"),
        "QEMU was refused {}: another function of IOMMU group {} still has its own driver; bind all to vfio-pci",
    ),
    (
        re.compile(r"Failed to get (?:shared )?\"write\" (lock)"),
        "QEMU was refused a {} on a disk's image: another process has the image open; testbed run image-in-use shows "
        "each way round that, and what it takes",
    ),
)


def vm_refusals(evidence: Evidence) -> Iterator[Statement]:
    """Yield what QEMU refused, and who is in the way."""
    for pattern, meaning in _REFUSALS:
        found: dict[tuple[str, ...], list[str]] = {}
        for line in evidence.qemu:
            if match := pattern.search(line.text):
                found.setdefault(match.groups(), []).append(line.reference)
        for groups, places in found.items():
            yield Statement(text=meaning.format(*groups), evidence=tuple(places[:CITED]), suspicious=True)

"""Inventory: what a guest and its QEMU hold at one moment, to be compared with another: what is more has leaked."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.guest.files import show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.guest.files import Shown
    from testbed.guest.guest import Guest

_GUEST = {
    "slots": "/sys/bus/pci/slots/*/address",
    "PCI functions": "/sys/bus/pci/devices/*",
    "block devices": "/sys/block/*",
    "network interfaces": "/sys/class/net/*",
    "interrupt descriptors": "/sys/kernel/irq/*/actions",
}
_INTERRUPTS, _MEMORY = "/proc/interrupts", "/proc/meminfo"
#: a line of /proc/interrupts that is a device's: its number, a count for each CPU, chip, hardware number, names
_LINE = re.compile(r"\s*[0-9]+:(?:\s+[0-9]+)+\s+(\S+)\s+\S+\s+(\S.*)")


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Counts and names of what can leak."""

    things: dict[str, Counter[str]]  #: what, and each one's name
    free_kib: int  #: guest memory that is free, or could be at once
    evidence: str

    def more_than(self, before: Inventory) -> dict[str, list[str]]:
        """Return what is new, and what is gone, the latter marked with a minus."""
        changed = {}
        for what, now in self.things.items():
            then = before.things[what]
            more = [*(now - then).elements(), *(f"-{name}" for name in (then - now).elements())]
            if more:
                changed[what] = more
        return changed

    def count(self, what: str) -> int:
        """Return how many there are."""
        return self.things[what].total()


async def take_inventory(guest: Guest) -> Inventory:
    """Look at what the guest and QEMU hold now."""
    shown = await show(guest, *_GUEST.values(), _INTERRUPTS, _MEMORY)
    things = {what: Counter(map(_name, shown.matching(pattern))) for what, pattern in _GUEST.items()}
    # their numbers and their places may change, how many there are must not
    things["interrupt descriptors"] = Counter({"descriptor": things["interrupt descriptors"].total()})
    things["interrupts"] = interrupt_sources(shown.text(_INTERRUPTS))
    things |= await _held_by_qemu(guest)
    return Inventory(things=things, free_kib=_free_kib(shown), evidence=shown.evidence)


async def _held_by_qemu(guest: Guest) -> dict[str, Counter[str]]:
    qmp = guest.machine.qmp
    held = {}
    for folder in ("peripheral", "peripheral-anon"):
        children = await qmp.execute("qom-list", {"path": f"/machine/{folder}"})
        held[f"QEMU {folder}"] = Counter(each["name"] for each in children if each["type"].startswith("child<"))
    nodes = await qmp.execute("query-named-block-nodes", {"flat": True})
    # the name of a node that nobody named is a number that goes up
    held["QEMU block nodes"] = Counter(
        "#" if each["node-name"].startswith("#") else each["node-name"] for each in nodes
    )
    held["QEMU chardevs"] = Counter(each["label"] for each in await qmp.execute("query-chardev"))
    return held


def interrupt_sources(text: str) -> Counter[str]:
    """Return the sources in /proc/interrupts, each by chip and names: `PCI-MSI virtio0-config`, without its numbers."""
    lines = (_LINE.fullmatch(line) for line in text.splitlines())
    return Counter(f"{line[1]} {_unnumbered(line[2])}" for line in lines if line)


def trend(values: Sequence[float]) -> float:
    """Return how much a value grows with each step, by least squares; 0 for fewer than two."""
    if len(values) < 2:
        return 0.0
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    spread = sum((index - middle) ** 2 for index in range(len(values)))
    return sum((index - middle) * (value - mean) for index, value in enumerate(values)) / spread


def _unnumbered(names: str) -> str:
    """Return names of handlers without the number that a driver gives each new device: virtio3-req.0, virtio-req.0."""
    return re.sub(r"(virtio|nvme|eth)[0-9]+", r"\1", names.strip())


def _name(path: str) -> str:
    parts = PurePosixPath(path)
    return parts.parent.name if parts.name in ("address", "actions") else parts.name


def _free_kib(shown: Shown) -> int:
    found = re.search(r"^MemAvailable:\s+([0-9]+) kB$", shown.text(_MEMORY), re.MULTILINE)
    return int(found[1]) if found else 0

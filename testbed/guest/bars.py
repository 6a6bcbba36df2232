"""The BARs of the guest's PCI functions, as its kernel assigned them.

Source: Linux drivers/pci/pci-sysfs.c, resource_show(); include/linux/ioport.h for the flags.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.model.bar import Space
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from testbed.guest.files import Shown
    from testbed.guest.guest import Guest

_LINE = re.compile(r"0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16})")
_BARS = 6
_IO, _MEMORY, _PREFETCH, _UNSET = 0x100, 0x200, 0x2000, 0x20000000
_FOLDERS = "/sys/bus/pci/devices/*"


@dataclass(frozen=True, kw_only=True)
class AssignedBar:
    """A BAR that has an address."""

    index: int
    space: Space
    start: int  #: physical address, or port
    size: int
    prefetchable: bool

    def __str__(self) -> str:
        return f"BAR {self.index} ({self.space}, {self.size:#x} bytes at {self.start:#x})"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A function with its BARs, and who has it."""

    address: Bdf
    vendor: int
    device: int
    driver: str  #: that is bound; empty if none is
    bars: tuple[AssignedBar, ...]

    def bar(self, index: int) -> AssignedBar | None:
        """Return the BAR of this number; None if the function has none, or it has no address."""
        return next((bar for bar in self.bars if bar.index == index), None)

    def bars_in(self, space: Space) -> list[AssignedBar]:
        """Return its BARs in memory, or of ports."""
        return [bar for bar in self.bars if bar.space is space]


async def read_owners(guest: Guest, folder: str = _FOLDERS) -> list[Owner]:
    """Return every function whose folder in sysfs matches, by address."""
    names = ("resource", "vendor", "device", "driver")
    shown = await show(guest, *(f"{folder}/{name}" for name in names))
    folders = sorted(path.removesuffix("/resource") for path in shown.files if path.endswith("/resource"))
    return [_owner(folder, shown) for folder in folders]


async def read_owner(guest: Guest, address: Bdf) -> Owner | None:
    """Return one function; None if the guest has none at this address."""
    return next(iter(await read_owners(guest, address.sysfs)), None)


def _owner(folder: str, shown: Shown) -> Owner:
    return Owner(
        address=Bdf.parse(folder.rpartition("/")[2]),
        vendor=int(shown.text(f"{folder}/vendor") or "0", 16),
        device=int(shown.text(f"{folder}/device") or "0", 16),
        driver=shown.links.get(f"{folder}/driver", "").rpartition("/")[2],
        bars=parse_resources(shown.text(f"{folder}/resource")),
    )


def parse_resources(text: str) -> tuple[AssignedBar, ...]:
    """Return the BARs of a `resource` file that have an address."""
    bars = (_bar(index, line) for index, line in enumerate(text.splitlines()[:_BARS]))
    return tuple(bar for bar in bars if bar)


def _bar(index: int, line: str) -> AssignedBar | None:
    match = _LINE.fullmatch(line.strip())
    start, end, flags = (int(group, 16) for group in match.groups()) if match else (0, 0, 0)
    if end <= start or not flags & (_IO | _MEMORY) or flags & _UNSET:
        return None
    return AssignedBar(
        index=index,
        space=Space.IO if flags & _IO else Space.MEMORY,
        start=start,
        size=end - start + 1,
        prefetchable=bool(flags & _PREFETCH),
    )

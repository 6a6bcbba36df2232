"""What lspci's words say of a function: the sizes of its BARs, and where its MSI-X structures are.

Source: pciutils lspci.c, show_bases() (`Region 0: Memory at … [size=16K]`; without -vv no number), and ls-caps.c,
cap_msix() (`Count=`, up to 3.1 `TabSize=`; the places with -vv only).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.model.bar import Space, read_bars
from testbed.model.msix import msix_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.model.config_space import ConfigSpace
    from testbed.model.msix import Msix

#: "Region 0: Memory at fe401000 (32-bit, non-prefetchable) [size=4K]"; a VF's is [virtual], one without address <…>
_REGION = re.compile(
    r"\s{0,64}(?:Region ([0-5]): )?(?:\[virtual\] )?(Memory|I/O ports) at ([0-9a-f]{1,16}|<[a-z ]{1,20}>) "
    r".{0,200}\[size=([0-9]{1,6})([KMGTPE]?)\].{0,200}"
)
_MSIX = re.compile(
    r"\s{0,64}Capabilities: \[([0-9a-f]{2,3})\] MSI-X: Enable([+-]) .{0,40}?(?:Count|TabSize)=([0-9]{1,4})\b.{0,80}"
)
_PLACE = re.compile(r"\s{0,64}(Vector table|PBA): BAR=([0-7]) offset=([0-9a-fA-F]{1,8})\s{0,8}")
_UNITS = {unit: 1 << 10 * power for power, unit in enumerate(("", "K", "M", "G", "T", "P", "E"))}
_MOST_VECTORS = 2048


@dataclass(frozen=True, kw_only=True)
class Region:
    """A BAR as the words have it."""

    index: int | None
    space: Space
    address: int | None  #: None if none is assigned
    size: int


@dataclass(kw_only=True)
class Decoded:
    """The words of one function, while they are read and afterwards."""

    regions: list[Region] = field(default_factory=list)
    lines: dict[int, int] = field(default_factory=dict)  #: offset of a register that they tell -> its line
    _capability: int = 0
    _vectors: int = 0
    _enabled: bool = False
    _places: dict[str, int] = field(default_factory=dict)  #: offset and BIR in one, as the registers have them

    def take(self, text: str, line: int) -> None:
        """Take a line, if it says something."""
        if match := _REGION.fullmatch(text):
            self.regions.append(_region(match))
        elif match := _MSIX.fullmatch(text):
            self._capability, self._vectors = int(match[1], 16), int(match[3])
            self._enabled = match[2] == "+"
            self.lines[self._capability] = line
        elif (match := _PLACE.fullmatch(text)) and match[1] not in self._places:
            self._places[match[1]] = int(match[3], 16) & ~7 | int(match[2])
            self.lines[self._capability + (4 if match[1] == "Vector table" else 8)] = line

    @property
    def msix(self) -> Msix | None:
        """Return the MSI-X capability, if all of it was told."""
        if not 1 <= self._vectors <= _MOST_VECTORS or len(self._places) < 2:
            return None
        return msix_at(
            self._capability,
            control=self._vectors - 1 | self._enabled << 15,
            table=self._places["Vector table"],
            pba=self._places["PBA"],
        )

    def sizes(self, space: ConfigSpace | None) -> Mapping[int, int]:
        """Return the size of each BAR; where the words do not number the regions, by its address in the bytes."""
        by_address = {(bar.space, bar.address): bar.index for bar in read_bars(space)} if space else {}
        sizes = {}
        for region in self.regions:
            index = region.index
            if index is None and region.address is not None:
                index = by_address.get((region.space, region.address))
            if index is not None and region.size:
                sizes[index] = region.size
        return sizes


def _region(match: re.Match[str]) -> Region:
    index, kind, address, size, unit = match.groups()
    return Region(
        index=int(index) if index else None,
        space=Space.MEMORY if kind == "Memory" else Space.IO,
        address=None if address.startswith("<") else int(address, 16),
        size=int(size) * _UNITS[unit],
    )

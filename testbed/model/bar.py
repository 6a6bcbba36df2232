"""Base Address Registers: what each decodes, and where.

Source: PCIe Base 6.3, section 7.5.1.2.1. How large a BAR is, is not in the registers: it was found by writing to them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.config_space import LAYOUT_BRIDGE, LAYOUT_ENDPOINT

if TYPE_CHECKING:
    from testbed.model.config_space import ConfigSpace

FIRST = 0x10
_COUNTS = {LAYOUT_ENDPOINT: 6, LAYOUT_BRIDGE: 2}


class Space(enum.StrEnum):
    """Which addresses a range is of."""

    MEMORY = "memory"
    IO = "I/O"


class BarFault(enum.StrEnum):
    """What is wrong with a BAR's type bits."""

    NO_UPPER_HALF = "no upper half"  #: 64-bit, and there is no register left for its upper half
    RESERVED_TYPE = "reserved type"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One BAR that is not empty."""

    index: int  #: of its (lower) register
    at: int  #: where that stands
    space: Space
    address: int  #: 0 if none is assigned
    wide: bool = False  #: a 64-bit BAR
    prefetchable: bool = False
    fault: BarFault | None = None

    @property
    def smallest_size(self) -> int:
        """Return what a BAR of its kind has at least."""
        return 4 if self.space is Space.IO else 16


def size_words(size: int) -> str:
    """Return a size in the largest binary unit that tells it whole: `16 GiB`."""
    number, unit = _scaled(size)
    return f"{number} {unit}iB" if unit else f"{number} bytes"


def size_option(size: int) -> str:
    """Return a size as a QEMU option takes it: `16G`."""
    number, unit = _scaled(size)
    return f"{number}{unit}"


def _scaled(size: int) -> tuple[int, str]:
    number, units = size, iter("KMGT")
    unit = ""
    while number and number % 1024 == 0 and (larger := next(units, "")):
        number, unit = number // 1024, larger
    return number, unit


def bar_count(space: ConfigSpace) -> int:
    """Return how many BARs a header of this layout has."""
    return _COUNTS.get(space.layout, 0)


def read_bars(space: ConfigSpace) -> tuple[Bar, ...]:
    """Return the function's own BARs; one that reads as 0 is not told from one that is not there."""
    return bars_at(space, FIRST, bar_count(space))


def bars_at(space: ConfigSpace, first: int, count: int) -> tuple[Bar, ...]:
    """Return the BARs of `count` registers from `first` on; SR-IOV's VF BARs have the same format."""
    bars = []
    index = 0
    while index < count:
        bar = _read_bar(space, first, index, count)
        if bar:
            bars.append(bar)
        index += 2 if bar and bar.wide and not bar.fault else 1
    return tuple(bars)


def _read_bar(space: ConfigSpace, first: int, index: int, count: int) -> Bar | None:
    at = first + 4 * index
    low = space.u32(at)
    if low == 0:
        return None
    if low & 1:
        fault = BarFault.RESERVED_TYPE if low & 2 else None
        return Bar(index=index, at=at, space=Space.IO, address=low & ~3, fault=fault)
    kind = low >> 1 & 3
    wide, whole = kind == 2, index + 1 < count
    return Bar(
        index=index,
        at=at,
        space=Space.MEMORY,
        address=low & ~0xF | (space.u32(at + 4) << 32 if wide and whole else 0),
        wide=wide,
        prefetchable=bool(low & 8),
        fault=_memory_fault(kind, whole=whole),
    )


def _memory_fault(kind: int, *, whole: bool) -> BarFault | None:
    # 01b was "below 1 MB" up to PCI 2.1 and is reserved since
    if kind in (1, 3):
        return BarFault.RESERVED_TYPE
    return BarFault.NO_UPPER_HALF if kind == 2 and not whole else None

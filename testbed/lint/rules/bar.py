"""Rules about Base Address Registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.ranges import decoded_ranges
from testbed.lint.rule import Hit, Missing, error
from testbed.model.bar import BarFault, Space, read_bars

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.lint.function import Function, Topology

_SOURCE = "PCIe Base 6.3, 7.5.1.2.1; PCI 3.0, 6.2.5.1"
_REASSIGN = "reassign the addresses: boot Linux with pci=realloc; failing that, it is up to the firmware"
#: how the sizes of BARs come into a file
SIZES_UNKNOWN = Missing(
    reason="the sizes of its BARs are not in the file",
    needs="lspci -vv with -xxxx (its '[size=…]'), or sysfs' `resource` beside `config`",
)


@error("bar-type", satisfy="memory BARs have type 00b or 10b, I/O BARs have bit 1 clear", source=_SOURCE, reads=64)
def bar_type(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a BAR of a reserved type; 01b was "below 1 MB" up to PCI 2.1, and conventional PCI still has it."""
    for bar in read_bars(function.space):
        value = function.space.u32(bar.at)
        below_1mb = bar.space is Space.MEMORY and value >> 1 & 3 == 1 and not function.express
        if bar.fault is BarFault.RESERVED_TYPE and not below_1mb:
            yield Hit(message=f"BAR {bar.index} reads {value:#010x}: a reserved type of {bar.space} BAR", at=bar.at)


@error("bar-64-last", satisfy="a 64-bit BAR has the next register for its upper half", source=_SOURCE, reads=64)
def bar_64_last(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a 64-bit BAR in the last register."""
    for bar in read_bars(function.space):
        if bar.fault is BarFault.NO_UPPER_HALF:
            yield Hit(message=f"BAR {bar.index} is 64-bit, and the header has no BAR {bar.index + 1}", at=bar.at)


@error("bar-alignment", satisfy="the address is a multiple of the size", source=_SOURCE, reads=64, mend=_REASSIGN)
def bar_alignment(function: Function, topology: Topology) -> Iterator[Hit | Missing]:
    """Find a BAR whose address its size does not divide."""
    for bar in read_bars(function.space):
        size = function.bar_sizes.get(bar.index)
        if bar.fault or not bar.address:
            continue
        if size is None:
            yield SIZES_UNKNOWN
            return
        if bar.address % size:
            message = f"BAR {bar.index} is at {bar.address:#x}, not a multiple of its size {size:#x}"
            yield Hit(message=message, at=bar.at)


@error("bar-overlap", satisfy="no two enabled BARs decode the same address", source=_SOURCE, reads=64, mend=_REASSIGN)
def bar_overlap(function: Function, topology: Topology) -> Iterator[Hit | Missing]:
    """Find an enabled BAR that begins within another."""
    for later, earlier in topology.overlaps(function):
        other = earlier if earlier.function is function else f"{earlier} of {earlier.function.name}"
        yield Hit(message=f"{later} begins within {other}", at=later.at)
    if any(not each.exact for each in decoded_ranges(function)):
        yield SIZES_UNKNOWN


RULES = (bar_type, bar_64_last, bar_alignment, bar_overlap)

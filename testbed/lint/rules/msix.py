"""Rules about MSI-X, and what to do about structures that overlap or have no room.

QEMU's test is msix_init() in hw/pci/msix.c; what it does about a device that it refuses is vfio_pci_relocate_msix() in
hw/vfio/pci.c: a BAR that the device does not have, or one twice as large, whose upper half takes both structures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.rule import Hit, Missing, error, note
from testbed.lint.rules.bar import SIZES_UNKNOWN
from testbed.model.bar import Space, bar_count, read_bars
from testbed.model.config_space import COMMAND_BUS_MASTER
from testbed.model.msix import msi_enabled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.lint.function import Function, Topology
    from testbed.model.bar import Bar
    from testbed.model.msix import Msix, MsixArea

_AREAS = "PCIe Base 6.3, 7.7.2.3 and 7.7.2.4; PCI 3.0, 6.8.2"
_BARS = 6
_PAGE = 0x1000


def _areas(msix: Msix | None) -> tuple[tuple[str, MsixArea], ...]:
    return (("table", msix.table), ("PBA", msix.pba)) if msix else ()


def _place(area: MsixArea) -> str:
    return f"BAR {area.bir}, {area.start:#x}..{area.end:#x}"


@error("msix-overlap", satisfy="table and PBA do not overlap", source=_AREAS, words_do=True)
def msix_overlap(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a vector table and pending bits that overlap; QEMU's msix_init() refuses such a device."""
    msix = function.msix
    if msix and msix.table.overlaps(msix.pba):
        message = f"MSI-X table ({_place(msix.table)}) and PBA ({_place(msix.pba)}) overlap"
        mend = _remedies(msix, function, topology)
        yield Hit(message=f"{message}; {_vectors(msix)}", at=msix.table.at, mend=mend)


@error("msix-outside", satisfy="table and PBA end before their BAR does", source=_AREAS, words_do=True)
def msix_outside(function: Function, topology: Topology) -> Iterator[Hit | Missing]:
    """Find a vector table or pending bits past the end of their BAR."""
    msix = function.msix
    for name, area in _areas(msix):
        size = _size(function, topology, area.bir)
        if size is None:
            yield SIZES_UNKNOWN
            return
        if msix and area.end >= size:
            message = f"MSI-X {name} ({_place(area)}) is outside the BAR: it has {size:#x} bytes"
            yield Hit(message=message, at=area.at, mend=_remedies(msix, function, topology))


def _remedies(msix: Msix, function: Function, topology: Topology) -> tuple[str, ...]:
    """Return what the device's designer can do, and what whoever has to assign it as it is."""
    table, pba = msix.table, msix.pba
    after = (table.start + table.size + 7) // 8 * 8
    page = -(-(table.start + table.size) // _PAGE) * _PAGE
    need = "needs" if msix.vectors == 1 else "need"
    room = f"{_vectors(msix)} {need} {table.size:#x} bytes of table and {pba.size:#x} of PBA"
    return (
        f"{room}: with the table at {table.start:#x} the PBA may begin at {after:#x}, better on a page of its own, at "
        f"{page:#x}; in one BAR that is {_power_of_two(page + pba.size):#x} bytes",
        "QEMU refuses it as it is, `table & pba overlap, or they don't fit in BARs, or don't align`; assign it with "
        f"-device vfio-pci,host={function.bdf or 'ADDRESS'},x-msix-relocation=bar{_relocation(function, topology)}",
    )


def _vectors(msix: Msix) -> str:
    return f"{msix.vectors} vector{'' if msix.vectors == 1 else 's'}"


def _power_of_two(size: int) -> int:
    return max(_PAGE, 1 << (size - 1).bit_length())


def _relocation(function: Function, topology: Topology) -> int | str:
    """Return the BAR that QEMU can move both structures to: one the device does not have, else its last of memory."""
    vf = topology.virtual(function)
    bars = vf.pf.sriov.vf_bars if vf and vf.pf.sriov else read_bars(function.space) if function.has_bytes else ()
    taken = {*_registers(bars), *function.bar_sizes}
    # a 64-bit BAR's upper half is not told by the words alone: a BAR right behind one that has a size is passed over
    shadows = set() if function.has_bytes else {index + 1 for index in function.bar_sizes}
    free = [index for index in range(_BARS) if index not in taken and index not in shadows]
    memory = [bar.index for bar in bars if bar.space is Space.MEMORY] or sorted(function.bar_sizes)
    choice = free or memory[-1:]
    return choice[0] if choice else "N"


def _registers(bars: tuple[Bar, ...]) -> set[int]:
    return {index for bar in bars for index in (bar.index, *([bar.index + 1] if bar.wide else []))}


def _size(function: Function, topology: Topology, bir: int) -> int | None:
    vf = topology.virtual(function)
    return function.bar_sizes.get(bir) or (vf.pf.vf_bar_sizes.get(bir) if vf else None)


@error("msix-bir", satisfy="the BIR names the (lower) register of a memory BAR", source=_AREAS)
def msix_bir(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a BIR that names no memory BAR."""
    bars = read_bars(function.space)
    for name, area in _areas(function.msix):
        if area.bir >= bar_count(function.space):
            yield Hit(message=f"MSI-X {name} is in BAR {area.bir}, which this header does not have", at=area.at)
        elif any(bar.index == area.bir and bar.space is Space.IO for bar in bars):
            yield Hit(message=f"MSI-X {name} is in BAR {area.bir}, which is an I/O BAR", at=area.at)
        elif any(bar.index + 1 == area.bir and bar.wide and not bar.fault for bar in bars):
            yield Hit(message=f"MSI-X {name} is in BAR {area.bir}, the upper half of BAR {area.bir - 1}", at=area.at)


@error("msi-both", satisfy="MSI or MSI-X is enabled, not both", source="PCIe Base 6.3, 6.1.4 and 7.7.1.2")
def msi_both(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a function with both kinds of message interrupts enabled."""
    msix = function.msix
    if msix and msix.enabled and msi_enabled(function.space):
        yield Hit(message="MSI and MSI-X are both enabled", at=msix.offset + 2)


@note("msix-bus-master", source="PCIe Base 6.3, 7.5.1.1.3: an MSI is a memory write of the function's")
def msix_bus_master(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say where MSI-X is enabled and cannot be sent."""
    msix = function.msix
    if msix and msix.enabled and not function.space.command & COMMAND_BUS_MASTER:
        yield Hit(message="MSI-X is enabled, Bus Master Enable is off: no interrupt is sent", at=0x04)


RULES = (msix_overlap, msix_outside, msix_bir, msi_both, msix_bus_master)

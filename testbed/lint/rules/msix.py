"""Rules about MSI-X."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.rule import Hit, Missing, error, note
from testbed.lint.rules.bar import SIZES_UNKNOWN
from testbed.model.bar import Space, bar_count, read_bars
from testbed.model.config_space import COMMAND_BUS_MASTER
from testbed.model.msix import msi_enabled, read_msix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.lint.function import Function, Topology
    from testbed.model.msix import Msix, MsixArea

_AREAS = "PCIe Base 6.3, 7.7.2.3 and 7.7.2.4; PCI 3.0, 6.8.2"


def _areas(msix: Msix | None) -> tuple[tuple[str, MsixArea], ...]:
    return (("table", msix.table), ("PBA", msix.pba)) if msix else ()


def _place(area: MsixArea) -> str:
    return f"BAR {area.bir}, {area.start:#x}..{area.end:#x}"


@error("msix-overlap", satisfy="table and PBA have no byte in common", source=_AREAS)
def msix_overlap(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a vector table and pending bits that overlap; QEMU's msix_init() refuses such a device."""
    msix = read_msix(function.space)
    if msix and msix.table.overlaps(msix.pba):
        message = f"MSI-X table ({_place(msix.table)}) and PBA ({_place(msix.pba)}) overlap"
        yield Hit(message=f"{message}; {msix.vectors} vectors", at=msix.table.at)


@error("msix-outside", satisfy="table and PBA end before their BAR does", source=_AREAS)
def msix_outside(function: Function, topology: Topology) -> Iterator[Hit | Missing]:
    """Find a vector table or pending bits past the end of their BAR."""
    for name, area in _areas(read_msix(function.space)):
        size = _size(function, topology, area.bir)
        if size is None:
            yield SIZES_UNKNOWN
            return
        if area.end >= size:
            yield Hit(message=f"MSI-X {name} ({_place(area)}) is outside the BAR: it has {size:#x} bytes", at=area.at)


def _size(function: Function, topology: Topology, bir: int) -> int | None:
    vf = topology.virtual(function)
    return function.bar_sizes.get(bir) or (vf.pf.vf_bar_sizes.get(bir) if vf else None)


@error("msix-bir", satisfy="the BIR names the (lower) register of a memory BAR", source=_AREAS)
def msix_bir(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a BIR that names no memory BAR."""
    bars = read_bars(function.space)
    for name, area in _areas(read_msix(function.space)):
        if area.bir >= bar_count(function.space):
            yield Hit(message=f"MSI-X {name} is in BAR {area.bir}, which this header does not have", at=area.at)
        elif any(bar.index == area.bir and bar.space is Space.IO for bar in bars):
            yield Hit(message=f"MSI-X {name} is in BAR {area.bir}, which is an I/O BAR", at=area.at)
        elif any(bar.index + 1 == area.bir and bar.wide and not bar.fault for bar in bars):
            yield Hit(message=f"MSI-X {name} is in BAR {area.bir}, the upper half of BAR {area.bir - 1}", at=area.at)


@error("msi-both", satisfy="MSI or MSI-X is enabled, not both", source="PCIe Base 6.3, 6.1.4 and 7.7.1.2")
def msi_both(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a function with both kinds of message interrupts enabled."""
    msix = read_msix(function.space)
    if msix and msix.enabled and msi_enabled(function.space):
        yield Hit(message="MSI and MSI-X are both enabled", at=msix.offset + 2)


@note("msix-bus-master", source="PCIe Base 6.3, 7.5.1.1.3: an MSI is a memory write of the function's")
def msix_bus_master(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say where MSI-X is enabled and cannot be sent."""
    msix = read_msix(function.space)
    if msix and msix.enabled and not function.space.command & COMMAND_BUS_MASTER:
        yield Hit(message="MSI-X is enabled, Bus Master Enable is off: no interrupt is sent", at=0x04)


RULES = (msix_overlap, msix_outside, msix_bir, msi_both, msix_bus_master)

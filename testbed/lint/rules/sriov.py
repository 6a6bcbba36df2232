"""Rules about SR-IOV: how many VFs, where they are, and what they decode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.function import vf_addresses
from testbed.lint.rule import Hit, Missing, error, note
from testbed.model import sriov as registers
from testbed.model.bar import BarFault, Space
from testbed.model.sriov import REQUIRED_PAGE_SIZES, routing_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.lint.function import Function, Topology
    from testbed.model.bar import Bar
    from testbed.model.pci import Bdf
    from testbed.model.sriov import Sriov

_ROUTING_IDS = "PCIe Base 6.3, 9.2.1.2, 9.3.3.9 and 9.3.3.10"
_PAGES = "PCIe Base 6.3, 9.3.3.12 and 9.3.3.13"
_NO_ADDRESS = Missing(reason="its address is not known", needs="text with addresses, or the path of sysfs' `config`")
_NO_PORT = Missing(reason="the port above it is not in the file", needs="a dump of all functions: lspci -xxxx as root")


def _last(function: Function) -> Bdf | None:
    """Return the address of the last VF that NumVFs counts; None if there is none."""
    sriov = function.sriov
    if not function.bdf or not sriov or not sriov.num_vfs:
        return None
    try:
        return sriov.vf_bdf(function.bdf, sriov.num_vfs - 1)
    except ValueError:
        return None


@error(
    "sriov-numvfs",
    satisfy="NumVFs is at most TotalVFs, without migration at most InitialVFs",
    source="PCIe Base 6.3, 9.3.3.7",
    reads=4096,
)
def sriov_numvfs(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find more VFs than there can be."""
    sriov = function.sriov
    if not sriov:
        return
    names = {"TotalVFs": sriov.total_vfs}
    if not sriov.migration_enabled:
        names["InitialVFs"] = sriov.initial_vfs
    exceeded = ", ".join(f"{name} is {limit}" for name, limit in names.items() if sriov.num_vfs > limit)
    if exceeded:
        yield Hit(message=f"NumVFs is {sriov.num_vfs}, {exceeded}", at=sriov.at + registers.NUM_VFS_AT)


@error(
    "sriov-initialvfs",
    satisfy="InitialVFs equals TotalVFs, with VF Migration Capable it is at most that",
    source="PCIe Base 6.3, 9.3.3.5",
    reads=4096,
)
def sriov_initialvfs(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a number of VFs at the start that does not fit the total."""
    sriov = function.sriov
    if not sriov or sriov.initial_vfs == sriov.total_vfs:
        return
    if not sriov.migration_capable or sriov.initial_vfs > sriov.total_vfs:
        capable = "" if sriov.migration_capable else " not"
        message = f"InitialVFs is {sriov.initial_vfs}, TotalVFs {sriov.total_vfs}; VF migration is{capable} supported"
        yield Hit(message=message, at=sriov.at + registers.INITIAL_VFS_AT)


@error(
    "sriov-offset",
    satisfy="First VF Offset is not 0 with a VF, VF Stride is not 0 with two",
    source=_ROUTING_IDS,
    reads=4096,
)
def sriov_offset(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find an offset or a stride that gives VFs the PF's address, or one address to all."""
    sriov = function.sriov
    if not sriov or not sriov.vf_enable:
        return
    if sriov.num_vfs and not sriov.offset:
        yield Hit(message="First VF Offset is 0: VF 0 has the PF's address", at=sriov.at + registers.OFFSET_AT)
    if sriov.num_vfs > 1 and not sriov.stride:
        message = f"VF Stride is 0: all {sriov.num_vfs} VFs have one address"
        yield Hit(message=message, at=sriov.at + registers.STRIDE_AT)


@error("sriov-routing-id", satisfy="offset and stride give each VF its own address", source=_ROUTING_IDS, reads=4096)
def sriov_routing_id(function: Function, topology: Topology) -> Iterator[Hit | Missing]:
    """Find a VF whose address another function has."""
    sriov = function.sriov
    if not sriov or not sriov.vf_enable or not sriov.num_vfs:
        return
    if not function.bdf:
        yield _NO_ADDRESS
    # with 0 for one of them sriov-offset has said it
    if sriov.offset and (sriov.stride or sriov.num_vfs == 1):
        for clash in topology.clashes(function):
            message = f"VF {clash.vf.number} has address {clash.bdf}, and so has {clash.other}"
            yield Hit(message=message, at=sriov.at + registers.OFFSET_AT)


@error(
    "sriov-bus-range",
    satisfy="the last VF's bus number is at most the subordinate bus number of the port above",
    source=f"{_ROUTING_IDS}; 7.5.1.3.4",
    reads=4096,
    mend="enable fewer VFs, or renumber the buses with room for them: boot Linux with pci=assign-busses",
)
def sriov_bus_range(function: Function, topology: Topology) -> Iterator[Hit | Missing]:
    """Find VFs on buses that do not lead to the PF."""
    sriov = function.sriov
    if not sriov or not sriov.vf_enable or not sriov.num_vfs or not function.bdf:
        return
    last, above = _last(function), topology.bridge_above(function)
    at = sriov.at + registers.OFFSET_AT
    if not last:
        first = routing_id_of(function.bdf) + sriov.offset
        number = next((n for n in range(sriov.num_vfs) if first + n * sriov.stride > 0xFFFF), 0)
        yield Hit(message=f"VF {number} of {sriov.num_vfs} would be past bus ff: {_geometry(sriov)}", at=at)
    elif last.bus == function.bdf.bus:
        return
    elif not above or not above.bridge:
        yield _NO_PORT
    elif last.bus > above.bridge.subordinate:
        reach = f"{above.name} leads to buses up to {above.bridge.subordinate:02x}"
        yield Hit(message=f"VF {sriov.num_vfs - 1} has address {last}, and {reach}", at=at)


def _geometry(sriov: Sriov) -> str:
    return f"offset {sriov.offset:#x}, stride {sriov.stride:#x}"


@error(
    "sriov-ari",
    satisfy="the port above has ARI Forwarding Enable set, or no VF needs more than function 7",
    source="PCIe Base 6.3, 6.13, 7.5.3.16 and 9.3.3.3.5",
    reads=4096,
    mend="let Linux enable the VFs (sriov_numvfs): it switches ARI on where port and PF have it",
)
def sriov_ari(function: Function, topology: Topology) -> Iterator[Hit | Missing]:
    """Find VFs that need ARI below a port that does not forward it."""
    sriov = function.sriov
    if not sriov or not sriov.vf_enable or not function.bdf:
        return
    needing = _beyond_device_0(function)
    if not needing and not sriov.ari_hierarchy:
        return
    above = topology.bridge_above(function)
    if not above or not above.express:
        yield _NO_PORT
    elif above.express.leads_down and not above.express.ari_forwarding:
        why = f"VF at {needing} needs it" if needing else "ARI Capable Hierarchy claims it is on"
        yield Hit(message=f"ARI Forwarding of {above.name} is off, and {why}", at=sriov.at + 8)


def _beyond_device_0(function: Function) -> Bdf | None:
    """Return the first VF on the PF's own bus that no port reaches without ARI."""
    own = function.bdf
    return next((bdf for _, bdf in vf_addresses(function) if own and bdf.bus == own.bus and bdf.device), None)


@error(
    "sriov-page-sizes",
    satisfy="4 KiB, 8 KiB, 64 KiB, 256 KiB, 1 MiB and 4 MiB are supported",
    source=_PAGES,
    reads=4096,
)
def sriov_page_sizes(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a PF that does not support what every PF has to."""
    sriov = function.sriov
    if sriov and REQUIRED_PAGE_SIZES & ~sriov.supported_page_sizes:
        message = f"Supported Page Sizes is {sriov.supported_page_sizes:#x}, without all of {REQUIRED_PAGE_SIZES:#x}"
        yield Hit(message=message, at=sriov.at + registers.SUPPORTED_PAGES_AT)


@error(
    "sriov-system-page",
    satisfy="one bit of System Page Size is set, and it is a supported one",
    source=_PAGES,
    reads=4096,
)
def sriov_system_page(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a page size that is none, or not supported."""
    sriov = function.sriov
    if sriov and (not sriov.page_size or not sriov.system_page_size_bits & sriov.supported_page_sizes):
        message = f"System Page Size is {sriov.system_page_size_bits:#x}, supported are {sriov.supported_page_sizes:#x}"
        yield Hit(message=message, at=sriov.at + registers.SYSTEM_PAGE_AT)


@error(
    "sriov-vf-bar",
    satisfy="VF BARs are memory BARs at multiples of the System Page Size",
    source="PCIe Base 6.3, 9.3.3.13 and 9.3.3.14",
    reads=4096,
)
def sriov_vf_bar(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a VF BAR of a wrong type, or not at a page of its own."""
    sriov = function.sriov
    for bar in sriov.vf_bars if sriov else ():
        problem = _problem(bar, sriov.page_size if sriov else None)
        if problem:
            yield Hit(message=f"VF BAR {bar.index} {problem}", at=bar.at)


def _problem(bar: Bar, page: int | None) -> str | None:
    if bar.space is Space.IO:
        return "is an I/O BAR"
    if bar.fault is BarFault.NO_UPPER_HALF:
        return "is 64-bit, and there is no VF BAR after it"
    if bar.fault:
        return "has a reserved type"
    if page and bar.address % page:
        return f"is at {bar.address:#x}, not a multiple of the System Page Size {page:#x}"
    return None


@note("sriov-vfs", source="PCIe Base 6.3, 9.3.3.3 and 9.3.3.7", reads=4096)
def sriov_vfs(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say how many VFs there are, and where."""
    sriov = function.sriov
    if not sriov:
        return
    message = f"SR-IOV: {sriov.num_vfs} of {sriov.total_vfs} VFs, VF Enable {_switch(sriov.vf_enable)}"
    if sriov.vf_enable:
        message += f", VF MSE {_switch(sriov.vf_memory)}"
    last = _last(function)
    if last and function.bdf:
        message += f": {sriov.vf_bdf(function.bdf, 0)} to {last}" if sriov.num_vfs > 1 else f": {last}"
        message += f" ({_geometry(sriov)})"
    yield Hit(message=message, at=sriov.at)


def _switch(on: bool) -> str:
    return "on" if on else "off"


RULES = (
    sriov_numvfs,
    sriov_initialvfs,
    sriov_offset,
    sriov_routing_id,
    sriov_bus_range,
    sriov_ari,
    sriov_page_sizes,
    sriov_system_page,
    sriov_vf_bar,
    sriov_vfs,
)

"""Rules about the two chains of capabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.rule import Hit, error
from testbed.model import aer, ari, capabilities, express, msix, sriov
from testbed.model.config_space import EXTENDED_START, STANDARD_START, ChainFaultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from testbed.lint.function import Function, Topology
    from testbed.model.config_space import Chain, ConfigSpace

_STANDARD_SOURCE = "PCIe Base 6.3, 7.5.1.1.11; PCI 3.0, 6.7"
_EXTENDED_SOURCE = "PCIe Base 6.3, 7.6.3"
#: what is read of each capability here
_LENGTHS = {capabilities.EXPRESS: express.LENGTH, capabilities.MSIX: msix.LENGTH}
_EXTENDED_LENGTHS = {capabilities.AER: aer.LENGTH, capabilities.ARI: ari.LENGTH, capabilities.SRIOV: sriov.LENGTH}


def _loops(chain: Chain) -> Iterator[Hit]:
    for fault in chain.faults:
        if fault.kind is ChainFaultKind.LOOP:
            yield Hit(message=f"the pointer at {fault.at:#x} leads back to {fault.target:#x}", at=fault.at)


def _wrong_pointers(chain: Chain, *, lowest: int) -> Iterator[Hit]:
    for fault in chain.faults:
        pointer = f"the pointer at {fault.at:#x}"
        if fault.kind is ChainFaultKind.BELOW:
            yield Hit(message=f"{pointer} leads to {fault.target:#x}, below {lowest:#x}", at=fault.at)
        elif fault.kind is ChainFaultKind.MISALIGNED:
            yield Hit(message=f"{pointer} is {fault.target:#x}: its two lowest bits are reserved", at=fault.at)
        elif fault.kind is ChainFaultKind.NOTHING:
            yield Hit(message=f"{pointer} leads to {fault.target:#x}, where all bytes read as ff", at=fault.at)


def _cut_off(
    space: ConfigSpace, chain: Chain, lengths: Mapping[int, int], name: Callable[[int], str], *, end: int
) -> Iterator[Hit]:
    for each in chain.capabilities:
        length = lengths.get(each.id, 0)
        if not space.fits(each.offset, length):
            message = f"capability {name(each.id)} at {each.offset:#x} has {length:#x} bytes, past the end at {end:#x}"
            yield Hit(message=message, at=each.offset)


@error("cap-loop", satisfy="no pointer leads back to an earlier capability; the last is 0", source=_STANDARD_SOURCE)
def cap_loop(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a capability list that runs in a circle."""
    yield from _loops(function.space.standard)


@error("cap-pointer", satisfy="each pointer is 0, or 40h..FCh and a multiple of 4", source=_STANDARD_SOURCE)
def cap_pointer(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a pointer that leads into the header, between double words or to nothing."""
    yield from _wrong_pointers(function.space.standard, lowest=STANDARD_START)


@error("cap-size", satisfy="the capability ends at or before FFh", source="PCIe Base 6.3, 7.2.1")
def cap_size(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a capability that is cut off by the end of PCI's space."""
    chain = function.space.standard
    yield from _cut_off(function.space, chain, _LENGTHS, capabilities.standard_name, end=EXTENDED_START)


@error(
    "extcap-loop",
    satisfy="no pointer leads back to an earlier capability; the last is 0",
    source=_EXTENDED_SOURCE,
    reads=4096,
)
def extcap_loop(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a list of extended capabilities that runs in a circle."""
    yield from _loops(function.space.extended)


@error(
    "extcap-pointer",
    satisfy="each pointer is 0, or 100h..FFCh and a multiple of 4",
    source=_EXTENDED_SOURCE,
    reads=4096,
)
def extcap_pointer(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a pointer that leads out of the extended space, between double words or to nothing."""
    yield from _wrong_pointers(function.space.extended, lowest=EXTENDED_START)


@error("extcap-size", satisfy="the capability ends at or before FFFh", source="PCIe Base 6.3, 7.6.1", reads=4096)
def extcap_size(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a capability that is cut off by the end of PCIe's space."""
    chain = function.space.extended
    yield from _cut_off(function.space, chain, _EXTENDED_LENGTHS, capabilities.extended_name, end=0x1000)


RULES = (cap_loop, cap_pointer, cap_size, extcap_loop, extcap_pointer, extcap_size)

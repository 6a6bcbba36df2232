"""Rules about the header, and about what does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.rule import Hit, error, note
from testbed.model.config_space import EXTENDED_START, LAYOUT_CARDBUS, STANDARD_START

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.lint.function import Function, Topology


@error(
    "all-ones",
    satisfy="the function answers: it is powered (D0), its link is up, and it was not removed",
    source="PCIe Base 6.3, 7.5.1.1.1: no function has vendor id FFFFh",
    reads=64,
    mend="wake it (echo on > /sys/bus/pci/devices/ADDRESS/power/control) and dump again; else reset or re-seat it",
)
def all_ones(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a function whose every byte reads as all ones."""
    if function.space.is_absent:
        yield Hit(message="every byte reads as ff: nothing answers here", at=0)


@note("unread", source="PCIe Base 6.3, 7.5.1.1.1: no function has vendor id FFFFh", reads=64)
def unread(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say which part was not answered, of a function that answered for another."""
    space = function.space
    if space.is_absent:
        return
    if ones := space.unanswered_header:
        message = f"bytes 00h to {ones - 1:02x}h read as ff, the rest do not: it did not answer while these were read"
        yield Hit(message=f"{message} (powered down, or off the bus); nothing else is judged", at=0)
    elif (start := space.unanswered_from) is not None and (start == STANDARD_START or space.is_express):
        message = f"from {start:02x}h on every byte reads as ff: it did not answer, or this part is not reachable"
        yield Hit(message=f"{message}; its capabilities there are not judged", at=start)


@note("extended-alias", source="PCIe Base 6.3, 7.2.1; Linux drivers/pci/probe.c, pci_ext_cfg_is_aliased()", reads=64)
def extended_alias(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say where the extended space is none."""
    if function.space.is_aliased and not function.space.is_absent:
        yield Hit(message="100h to fffh repeat 00h to ffh: there is no extended space", at=EXTENDED_START)


@note("vf-ids", source="PCIe Base 6.3, 9.3.4: a VF's vendor and device id read as FFFFh", reads=64)
def vf_ids(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say whose VF reads without ids, as all VFs do."""
    if not function.has_vf_ids:
        return
    vf = topology.virtual(function)
    if vf and vf.pf.sriov:
        ids = f"{vf.pf.space.vendor:04x}:{vf.pf.sriov.vf_device:04x}"
        yield Hit(message=f"ids read as ffff, as a VF's do: it is VF {vf.number} of {vf.pf.name}, {ids}", at=0)
    else:
        yield Hit(message="ids read as ffff, as a VF's do; no PF in the file has it", at=0)


@error(
    "header-layout",
    satisfy="Header Type bits 6:0 are 0 (endpoint), 1 (bridge) or 2 (CardBus bridge)",
    source="PCIe Base 6.3, 7.5.1.1.9",
    reads=64,
)
def header_layout(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a header whose layout nobody knows."""
    if function.space.layout > LAYOUT_CARDBUS:
        yield Hit(message=f"header layout {function.space.layout:#x} is reserved", at=0x0E)


RULES = (all_ones, unread, extended_alias, vf_ids, header_layout)
#: of a function that did not answer when its header was read
UNANSWERED = (all_ones, unread)

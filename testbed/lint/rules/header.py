"""Rules about the header, and about what does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.rule import Hit, error, note
from testbed.model.config_space import LAYOUT_CARDBUS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.lint.function import Function, Topology


@error(
    "all-ones",
    satisfy="the function answers: it is powered (D0), its link is up, and it was not removed",
    source="PCIe Base 6.3, 7.5.1.1.1: no function has vendor id FFFFh",
    reads=64,
)
def all_ones(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a function whose every byte reads as all ones."""
    if function.space.is_absent:
        yield Hit(message="every byte reads as ff: nothing answers here", at=0)


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
        yield Hit(message="ids read as ffff, as a VF's do; no PF that the file shows has it", at=0)


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


RULES = (all_ones, vf_ids, header_layout)

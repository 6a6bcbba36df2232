"""A PCI function as a file or a machine shows it, and all functions of one machine."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING

from testbed.lint.ranges import decoded_ranges, find_overlaps
from testbed.model.bridge import read_bridge
from testbed.model.express import read_express
from testbed.model.msix import read_msix
from testbed.model.sriov import read_sriov, routing_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from testbed.lint.ranges import Range
    from testbed.model.bridge import Bridge
    from testbed.model.config_space import ConfigSpace
    from testbed.model.express import Express
    from testbed.model.msix import Msix
    from testbed.model.pci import Bdf
    from testbed.model.sriov import Sriov


# compared by identity: two functions with the same bytes are two
@dataclass(frozen=True, kw_only=True, eq=False)
class Function:
    """One function, and where its bytes came from."""

    space: ConfigSpace  #: of no bytes where only lspci's words are known
    bdf: Bdf | None  #: None where nothing says it: a `config` file outside sysfs
    source: str  #: the file
    line: int | None = None  #: of the device's line, in a text
    lines: Mapping[int, int] = field(default_factory=dict, repr=False)  #: offset of a row of 16 bytes -> its line
    bar_sizes: Mapping[int, int] = field(default_factory=dict)  #: BAR -> bytes, as far as known
    vf_bar_sizes: Mapping[int, int] = field(default_factory=dict)  #: VF BAR -> bytes of one VF
    decoded_msix: Msix | None = None  #: of lspci's words, where there are no bytes

    @property
    def name(self) -> str:
        """Return what to call it."""
        return str(self.bdf) if self.bdf else "function"

    def where(self, offset: int | None = None) -> str:
        """Return `FILE:LINE` of a register in a text, `FILE+OFFSET` in a binary file."""
        if self.line is not None:
            line = self.line if offset is None else self.lines.get(offset & ~0xF, self.line)
            return f"{self.source}:{line}"
        return self.source if offset is None else f"{self.source}+{offset:#x}"

    @property
    def has_bytes(self) -> bool:
        """Return whether any of its configuration space is known."""
        return len(self.space) > 0

    @property
    def answers(self) -> bool:
        """Return whether it answered when its header was read."""
        return not self.space.unanswered_header

    @cached_property
    def msix(self) -> Msix | None:
        """Return its MSI-X capability."""
        return read_msix(self.space) if self.has_bytes else self.decoded_msix

    @cached_property
    def express(self) -> Express | None:
        """Return its PCI Express capability."""
        return read_express(self.space) if self.has_bytes else None

    @cached_property
    def sriov(self) -> Sriov | None:
        """Return its SR-IOV capability."""
        return read_sriov(self.space) if self.has_bytes else None

    @cached_property
    def bridge(self) -> Bridge | None:
        """Return what its header says as a bridge."""
        return read_bridge(self.space) if self.has_bytes and self.answers else None

    @property
    def has_vf_ids(self) -> bool:
        """Return whether it reads as a VF does: no ids, and all else there."""
        return self.has_bytes and self.answers and (self.space.vendor, self.space.device) == (0xFFFF, 0xFFFF)


@dataclass(frozen=True, kw_only=True)
class VirtualFunction:
    """A VF by its PF."""

    pf: Function
    number: int  #: from 0, as sysfs' virtfn links


@dataclass(frozen=True, kw_only=True)
class RoutingIdClash:
    """Two functions with one routing id, one of them a VF."""

    vf: VirtualFunction
    bdf: Bdf
    other: str  #: who has it already


class Topology:
    """The functions of one machine, and how they hang together."""

    def __init__(self, functions: Sequence[Function]) -> None:
        self.functions = tuple(functions)
        self._by_bdf = {each.bdf: each for each in functions if each.bdf}

    @cached_property
    def _bridges(self) -> dict[tuple[int, int], Function]:
        """Return each bridge by the domain and number of the bus behind it; one that has no number yet has none."""
        return {
            (each.bdf.domain, each.bridge.secondary): each
            for each in self.functions
            if each.bdf and each.bridge and each.bridge.secondary
        }

    def bridge_above(self, function: Function) -> Function | None:
        """Return the bridge whose secondary bus a function stands on, or None if it is not known."""
        return self._bridges.get((function.bdf.domain, function.bdf.bus)) if function.bdf else None

    def bus_clash(self, bridge: Function) -> Function | None:
        """Return the sibling within whose bus numbers a bridge's own begin."""
        return self._bus_clashes.get(bridge)

    @cached_property
    def _bus_clashes(self) -> dict[Function, Function]:
        reach: dict[tuple[int, int], tuple[int, Function]] = {}
        clashes = {}
        for bus, first, last, each in sorted(self._bus_numbers(), key=itemgetter(0, 1)):
            furthest = reach.get(bus)
            if furthest and first <= furthest[0]:
                clashes[each] = furthest[1]
            if not furthest or last > furthest[0]:
                reach[bus] = last, each
        return clashes

    def _bus_numbers(self) -> Iterator[tuple[tuple[int, int], int, int, Function]]:
        """Yield, of each bridge that has numbers, the bus it stands on, its first and its last bus."""
        for each in self.functions:
            if each.bdf and each.bridge and each.bridge.secondary:
                yield (each.bdf.domain, each.bdf.bus), each.bridge.secondary, each.bridge.subordinate, each

    def overlaps(self, function: Function) -> list[tuple[Range, Range]]:
        """Return the ranges of a function that begin within another one, each with that."""
        return self._overlaps.get(function, [])

    @cached_property
    def _overlaps(self) -> dict[Function, list[tuple[Range, Range]]]:
        found = defaultdict(list)
        for later, earlier in find_overlaps(each for function in self.functions for each in decoded_ranges(function)):
            found[later.function].append((later, earlier))
        return found

    def virtual(self, function: Function) -> VirtualFunction | None:
        """Return whose VF a function is, or None if no PF here has it."""
        return self._vfs[0].get(function.bdf) if function.bdf and function.has_vf_ids else None

    def clashes(self, pf: Function) -> list[RoutingIdClash]:
        """Return the first clash of a PF's VFs with anything that came before them."""
        return [clash for clash in self._vfs[1] if clash.vf.pf is pf]

    @cached_property
    def _vfs(self) -> tuple[dict[Bdf, VirtualFunction], list[RoutingIdClash]]:
        """Return every VF by its address, and for each PF its first clash.

        A PF's VFs are followed up to its first clash, so that no dump makes this longer than the routing ids are many.
        """
        owners: dict[Bdf, VirtualFunction] = {}
        clashes = []
        for pf in self.functions:
            for number, bdf in vf_addresses(pf):
                vf = VirtualFunction(pf=pf, number=number)
                other = self._taken_by(bdf, owners)
                if other:
                    clashes.append(RoutingIdClash(vf=vf, bdf=bdf, other=other))
                    break
                owners[bdf] = vf
        return owners, clashes

    def _taken_by(self, bdf: Bdf, owners: Mapping[Bdf, VirtualFunction]) -> str | None:
        if bdf in owners:
            return f"VF {owners[bdf].number} of {owners[bdf].pf.name}"
        there = self._by_bdf.get(bdf)
        return f"function {bdf}" if there and not there.has_vf_ids else None


def vf_addresses(pf: Function) -> Iterator[tuple[int, Bdf]]:
    """Yield number and address of each VF that NumVFs counts, as far as there are routing ids."""
    if not pf.bdf or not pf.sriov:
        return
    room = 0x10000 - routing_id_of(pf.bdf) - pf.sriov.offset
    for number in range(pf.sriov.num_vfs):
        if number * pf.sriov.stride >= room:
            return
        yield number, pf.sriov.vf_bdf(pf.bdf, number)


def repeated(functions: Sequence[Function]) -> Bdf | None:
    """Return an address that two functions have, if there is one."""
    counts = Counter(each.bdf for each in functions if each.bdf)
    return next((bdf for bdf, count in counts.items() if count > 1), None)

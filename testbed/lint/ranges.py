"""The addresses that functions decode now, and which of them overlap."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from testbed.model.bar import Space, read_bars
from testbed.model.config_space import COMMAND_IO, COMMAND_MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from testbed.lint.function import Function
    from testbed.model.bar import Bar

_ENABLES = {Space.MEMORY: COMMAND_MEMORY, Space.IO: COMMAND_IO}


@dataclass(frozen=True, kw_only=True)
class Range:
    """Addresses one BAR decodes, both ends included."""

    function: Function
    name: str
    at: int  #: where the BAR stands
    space: Space
    start: int
    end: int
    exact: bool  #: False where the size is not known: then it is the smallest there can be

    def __str__(self) -> str:
        end = f"{self.end:#x}" if self.exact else "…"
        return f"{self.name} ({self.space} {self.start:#x}..{end})"


def is_enabled(function: Function, space: Space) -> bool:
    """Return whether a function's Command register lets it decode, or forward, this kind of address."""
    return bool(function.space.command & _ENABLES[space])


def decoded_ranges(function: Function) -> Iterator[Range]:
    """Yield what a function's BARs, and the VF BARs of its VFs, decode now."""
    if not function.has_bytes:
        return
    for bar in read_bars(function.space):
        if bar.address and not bar.fault and is_enabled(function, bar.space):
            yield _range(function, bar, f"BAR {bar.index}", function.bar_sizes.get(bar.index), count=1)
    sriov = function.sriov
    if sriov and sriov.vf_enable and sriov.vf_memory and sriov.num_vfs:
        for bar in sriov.vf_bars:
            if bar.address and not bar.fault and bar.space is Space.MEMORY:
                name = f"VF BAR {bar.index} of {sriov.num_vfs} VFs"
                yield _range(function, bar, name, function.vf_bar_sizes.get(bar.index), count=sriov.num_vfs)


def _range(function: Function, bar: Bar, name: str, size: int | None, *, count: int) -> Range:
    return Range(
        function=function,
        name=name,
        at=bar.at,
        space=bar.space,
        start=bar.address,
        end=bar.address + (size or bar.smallest_size) * count - 1,
        exact=size is not None,
    )


def find_overlaps(ranges: Iterable[Range]) -> Iterator[tuple[Range, Range]]:
    """Yield each range that begins within an earlier one, after the one of those that reaches furthest."""
    reach: dict[tuple[object, Space], Range] = {}
    for each in sorted(ranges, key=attrgetter("start")):
        bdf = each.function.bdf
        # a function without an address is compared only with itself
        key = (bdf.domain if bdf else each.function, each.space)
        furthest = reach.get(key)
        if furthest and each.start <= furthest.end:
            yield each, furthest
        if not furthest or each.end > furthest.end:
            reach[key] = each

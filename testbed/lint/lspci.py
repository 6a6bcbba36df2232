"""`lspci -x`, `-xxx` and `-xxxx` text, with or without the words of `-v` around the bytes.

A device's line begins with its address; a row has an offset and 16 bytes. Rows follow one another from 0 to the end of
the configuration space. Everything else is words, of which only the sizes of BARs are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from testbed.lint.function import Function, repeated, vf_addresses
from testbed.model.bar import Space, read_bars
from testbed.model.config_space import SIZES, ConfigSpace
from testbed.model.errors import InputError
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DEVICE = re.compile(r"((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7])(?:\s.*)?")
_ROW = re.compile(r"([0-9a-fA-F]{2,3}):(?:\s(.*))?")
_BYTE = re.compile(r"[0-9a-fA-F]{2}")
#: "Region 0: Memory at fe401000 (32-bit, non-prefetchable) [size=4K]"; lspci -v says no region, a VF's is [virtual]
_REGION = re.compile(
    r"\s+(?:Region ([0-5]): )?(?:\[virtual\] )?(Memory|I/O ports) at ([0-9a-f]{1,16}) "
    r".*\[size=([0-9]{1,6})([KMGTPE]?)\].*"
)
_UNITS = {unit: 1 << 10 * power for power, unit in enumerate(("", "K", "M", "G", "T", "P", "E"))}
_ROW_BYTES = 16
_HINT = "make one with: lspci -vvxxxx > dump.txt (as root: others see 64 bytes)"


@dataclass(frozen=True, kw_only=True)
class _Region:
    """A BAR as the words have it."""

    index: int | None
    space: Space
    address: int
    size: int


@dataclass(kw_only=True)
class _Draft:
    """A device while it is read."""

    line: int
    bdf: Bdf
    data: bytearray = field(default_factory=bytearray)
    lines: dict[int, int] = field(default_factory=dict)
    regions: list[_Region] = field(default_factory=list)


def parse_lspci(text: str, *, source: str) -> tuple[Function, ...]:
    """Read every device of a text; raise InputError, naming the line, where it is no dump."""
    drafts: list[_Draft] = []
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{source}:{number}"
        if match := _DEVICE.fullmatch(line.rstrip()):
            drafts.append(_Draft(line=number, bdf=Bdf.parse(match[1])))
        elif match := _ROW.fullmatch(line.rstrip()):
            if not drafts:
                raise InputError(f"{where}: bytes before the line of a device, such as '01:00.0 …'", hint=_HINT)
            _add_row(drafts[-1], int(match[1], 16), (match[2] or "").split(), number, where)
        elif drafts and (match := _REGION.fullmatch(line.rstrip())):
            drafts[-1].regions.append(_region(match))
    if not drafts:
        raise InputError(f"{source}: no device in it", hint=_HINT)
    return _with_vf_sizes(_distinct([_finish(draft, source) for draft in drafts]))


def _add_row(draft: _Draft, offset: int, words: Sequence[str], number: int, where: str) -> None:
    due = len(draft.data)
    if offset != due:
        raise InputError(f"{where}: {draft.bdf}: offset {offset:#x}, wanted {due:#x}: are lines missing?", hint=_HINT)
    for word in words:
        if not _BYTE.fullmatch(word):
            raise InputError(f"{where}: {draft.bdf}: {word[:20]!r} is no byte of two hexadecimal digits", hint=_HINT)
    if len(words) != _ROW_BYTES:
        raise InputError(f"{where}: {draft.bdf}: the row has {len(words)} bytes, wanted {_ROW_BYTES}", hint=_HINT)
    draft.lines[offset] = number
    draft.data += bytes.fromhex("".join(words))


def _region(match: re.Match[str]) -> _Region:
    index, kind, address, size, unit = match.groups()
    return _Region(
        index=int(index) if index else None,
        space=Space.MEMORY if kind == "Memory" else Space.IO,
        address=int(address, 16),
        size=int(size) * _UNITS[unit],
    )


def _finish(draft: _Draft, source: str) -> Function:
    if len(draft.data) not in SIZES:
        wanted = ", ".join(map(str, SIZES))
        last = max(draft.lines.values(), default=draft.line)
        have = f"{len(draft.data)} bytes" if draft.data else "no bytes"
        raise InputError(f"{source}:{last}: {draft.bdf}: has {have}, wanted one of {wanted}", hint=_HINT)
    space = ConfigSpace(bytes(draft.data))
    return Function(
        space=space,
        bdf=draft.bdf,
        source=source,
        line=draft.line,
        lines=draft.lines,
        bar_sizes=_sizes(draft.regions, space),
    )


def _sizes(regions: Sequence[_Region], space: ConfigSpace) -> Mapping[int, int]:
    """Return the size of each BAR; where the words do not number the regions, by its address."""
    by_address = {(bar.space, bar.address): bar.index for bar in read_bars(space)}
    sizes = {}
    for region in regions:
        index = by_address.get((region.space, region.address)) if region.index is None else region.index
        if index is not None and region.size:
            sizes[index] = region.size
    return sizes


def _distinct(functions: Sequence[Function]) -> tuple[Function, ...]:
    twice = repeated(functions)
    if twice:
        lines = [each.line for each in functions if each.bdf == twice]
        source = functions[0].source
        hint = "one dump a file: a file is taken for one machine at one time"
        raise InputError(f"{source}:{lines[1]}: {twice} is in it already, at line {lines[0]}", hint=hint)
    return tuple(functions)


def _with_vf_sizes(functions: Sequence[Function]) -> tuple[Function, ...]:
    """Return the functions, each PF with the BAR sizes that the words of its first VF tell."""
    sizes = {each.bdf: each.bar_sizes for each in functions if each.has_vf_ids}
    return tuple(replace(each, vf_bar_sizes=sizes.get(_first_vf(each), {})) for each in functions)


def _first_vf(function: Function) -> Bdf | None:
    return next((bdf for _, bdf in vf_addresses(function)), None)

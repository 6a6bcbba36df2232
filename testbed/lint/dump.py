"""A text with configuration spaces: of lspci with its words, of a hex dump of sysfs' `config`, or of `setpci -v`.

A device's line begins with its address, or names its `config`; rows follow one another from 0 on. Everything else is
words (testbed.lint.decoded). What is damaged costs the function it stands in, not the file: it is skipped, or judged by
what is before the damage, and named either way. A function that comes a second time, with other bytes, begins another
dump of the machine.

Sources: pciutils lspci.c, show_terse() and show_hex_dump(), and setpci.c (`ADDRESS @OFFSET = VALUE` with -v; --dumpregs
prints the names of registers and no value); Linux drivers/pci/probe.c, early_dump_pci_device().
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from testbed.lint.decoded import Decoded
from testbed.lint.function import Function, vf_addresses
from testbed.lint.hex_row import BASES, is_hex_row, parse_end, parse_hex_row
from testbed.lint.report import Skipped
from testbed.model.config_space import SIZES, ConfigSpace
from testbed.model.errors import InputError
from testbed.model.pasted import Unwrapper, split_lines
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from testbed.lint.hex_row import HexRow

_BDF = r"(?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]"
_DEVICE = re.compile(rf"(?:Slot:\s)?({_BDF})(?:\s.{{0,4000}})?")
#: a command, or head's and find's way to say whose bytes follow
_CONFIG_PATH = re.compile(rf".{{0,200}}?/({_BDF})/config\b.{{0,200}}")
_EARLY_DUMP = re.compile(rf".{{0,40}}\bpci ({_BDF}):? config space:\s?")
_REGISTER = re.compile(
    rf"({_BDF})(?: \(cap .{{0,40}}\))? @([0-9a-f]{{2,3}}) = ([0-9a-f]{{2}}|[0-9a-f]{{4}}|[0-9a-f]{{8}})\s{{0,8}}"
)
_REGISTER_NAMES = re.compile(r"cap pos w name\s{0,8}")
#: what libpci and its programs say on stderr, in the middle of what was on its way to stdout
_NOISE = re.compile(r"(?:pcilib|lspci|setpci|libkmod): .{1,200}")
_HEADER = SIZES[0]
_WHOLE = SIZES[-1]
HINT = "make one with: lspci -vvxxxx > dump.txt (as root: others see 64 bytes)"


@dataclass(frozen=True, kw_only=True)
class Dump:
    """The functions of a text, machine by machine, and those that could not be judged."""

    machines: tuple[tuple[Function, ...], ...]
    skipped: tuple[Skipped, ...] = ()


@dataclass(kw_only=True, eq=False)
class _Draft:
    """A device while it is read."""

    line: int
    bdf: Bdf | None
    data: bytearray = field(default_factory=bytearray)
    lines: dict[int, int] = field(default_factory=dict)
    registers: dict[int, int] = field(default_factory=dict)  #: bytes that setpci named one by one
    decoded: Decoded = field(default_factory=Decoded)
    damage: tuple[int, str] | None = None  #: the first, with its line
    repeats: bool = False  #: the row before goes on until the next one's offset
    bases: tuple[int, ...] = BASES  #: in which its offsets may be counted, by the rows so far

    @property
    def name(self) -> str:
        return str(self.bdf) if self.bdf else "function"

    @property
    def usable(self) -> int:
        """Return how many of the bytes before the damage are those of a space that can be judged."""
        return max((size for size in SIZES if size <= len(self.data)), default=0)

    def add(self, row: HexRow, number: int) -> None:
        """Take a row, or find that it does not fit."""
        if self.damage:
            return
        if self.repeats:
            self._repeat(row, number)
        self.repeats = False
        bases = tuple(base for base in self.bases if row.start(base) == len(self.data))
        self.bases = bases or self.bases
        if not bases:
            self.damage = number, f"offset {row.offset}, wanted {len(self.data):#x}: are lines missing?"
        elif row.fault:
            self.damage = number, row.fault
        else:
            for at in range(0, len(row.data), 16):
                self.lines[len(self.data) + at] = number
            self.data += row.data
            if len(row.data) % 16 and row.data:
                self.damage = number, f"the row has {len(row.data)} bytes, wanted 16"
                del self.data[len(self.data) - len(row.data) :]

    def _repeat(self, row: HexRow, number: int) -> None:
        """Fill the gap before a row, as `*` says, with the row before the gap."""
        last = bytes(self.data[-16:])
        ends = (row.start(base) or 0 for base in self.bases)
        end = next((each for each in ends if len(self.data) < each <= _WHOLE and not each % 16), 0)
        while last and len(self.data) < end:
            self.lines[len(self.data)] = number
            self.data += last

    def set_register(self, offset: int, digits: str) -> None:
        """Take one register's value."""
        value = int(digits, 16)
        for at in range(len(digits) // 2):
            self.registers[offset + at] = value >> 8 * at & 0xFF

    def close(self) -> None:
        """Make bytes of registers that were told one by one, as far as they have no gap."""
        if not self.data and self.registers:
            at = 0
            while at in self.registers:
                self.data.append(self.registers[at])
                at += 1
            if not self.usable:
                self.damage = self.line, f"has {len(self.registers)} bytes of registers, wanted the first {_HEADER}"
        elif self.data and not self.damage and len(self.data) not in SIZES:
            last = max(self.lines.values(), default=self.line)
            self.damage = last, f"has {len(self.data)} bytes, wanted one of {', '.join(map(str, SIZES))}"


def parse_dump(text: str, *, source: str) -> Dump:
    """Read every device of a text; raise InputError, naming a line, where none can be judged."""
    drafts, only_names = _drafts(text)
    for draft in drafts:
        draft.close()
    machines = list(_machines(drafts))
    functions = [[_function(draft, source) for draft in machine if _is_judged(draft)] for machine in machines]
    skipped = tuple(_skipped(draft, source) for machine in machines for draft in machine if not _is_whole(draft))
    if not any(functions):
        raise _nothing(skipped, source, only_names=only_names)
    return Dump(machines=tuple(_with_vf_sizes(each) for each in functions if each), skipped=skipped)


def _nothing(skipped: Sequence[Skipped], source: str, *, only_names: bool) -> InputError:
    if only_names:
        words = "setpci --dumpregs prints register names, not a device's values"
        return InputError(f"{source}: {words}", hint=HINT)
    if not skipped:
        return InputError(f"{source}: no device in it", hint=HINT)
    first = next((each for each in skipped if each.damaged), skipped[0])
    return InputError(f"{first.where}: {first.function}: {first.reason}", hint=HINT)


def _drafts(text: str) -> tuple[list[_Draft], bool]:
    """Return the devices in their order, and whether the text has setpci's list of names."""
    drafts: list[_Draft] = []
    only_names = False
    unwrapper = Unwrapper(_is_known)
    for number, line in _without_noise(split_lines(text)):
        plain = unwrapper.unwrap(line)
        if bdf := _device(plain):
            if not (drafts and drafts[-1].bdf == bdf and not drafts[-1].data):
                drafts.append(_Draft(line=number, bdf=bdf))
        elif match := _REGISTER.fullmatch(plain):
            _register(drafts, match, number)
        elif row := parse_hex_row(plain):
            if not drafts or (row.is_first and drafts[-1].data):
                drafts.append(_Draft(line=number, bdf=None))
            drafts[-1].add(row, number)
        elif drafts:
            _take_words(drafts[-1], plain, number)
        only_names = only_names or _REGISTER_NAMES.fullmatch(plain) is not None
    return drafts, only_names


def _is_known(text: str) -> bool:
    return is_hex_row(text) or _device(text) is not None or _REGISTER.fullmatch(text) is not None


def _device(text: str) -> Bdf | None:
    """Return whose words or bytes follow."""
    if _REGISTER.fullmatch(text):
        return None
    match = _DEVICE.fullmatch(text.rstrip()) or _EARLY_DUMP.fullmatch(text) or _CONFIG_PATH.fullmatch(text)
    return Bdf.parse(match[1].lower()) if match else None


def _register(drafts: list[_Draft], match: re.Match[str], number: int) -> None:
    bdf = Bdf.parse(match[1])
    if not drafts or drafts[-1].bdf != bdf:
        drafts.append(_Draft(line=number, bdf=bdf))
    drafts[-1].set_register(int(match[2], 16), match[3])


def _take_words(draft: _Draft, text: str, number: int) -> None:
    if text.strip() == "*" and draft.data:
        draft.repeats = True
    elif draft.repeats and (end := parse_end(text)):
        draft.add(end, number)
    else:
        draft.decoded.take(text, number)


def _without_noise(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield each line with its number, without the messages of libpci that split one in two."""
    begun: tuple[int, str] | None = None
    for number, text in enumerate(lines, start=1):
        first, line = (begun[0], begun[1] + text) if begun else (number, text)
        match = _NOISE.search(line)
        begun = (first, line[: match.start()]) if match and match.start() else None
        if match is None:
            yield first, line
    if begun:
        yield begun


def _machines(drafts: Sequence[_Draft]) -> Iterator[list[_Draft]]:
    """Yield the devices of each machine, the words and the bytes of one function joined."""
    machine: dict[Bdf, _Draft] = {}
    anonymous: list[_Draft] = []
    for draft in drafts:
        known = machine.get(draft.bdf) if draft.bdf else None
        if draft.bdf is None:
            anonymous.append(draft)
        elif known is None:
            machine[draft.bdf] = draft
        elif known.data and draft.data and known.data != draft.data:
            yield [*machine.values(), *anonymous]
            machine, anonymous = {draft.bdf: draft}, []
        else:
            machine[draft.bdf] = _joined(known, draft)
    if machine or anonymous:
        yield [*machine.values(), *anonymous]


def _joined(known: _Draft, draft: _Draft) -> _Draft:
    """Return the one of two drafts that has the bytes, with the words of the one that has some."""
    better = draft if draft.data and not known.data else known
    other = known if better is draft else draft
    words = better.decoded if better.decoded.regions or better.decoded.msix else other.decoded
    return replace(better, decoded=words)


def _is_judged(draft: _Draft) -> bool:
    return bool(draft.usable) or draft.decoded.msix is not None


def _is_whole(draft: _Draft) -> bool:
    """Return whether nothing has to be said of what is missing of it."""
    return _is_judged(draft) and not draft.damage


def _skipped(draft: _Draft, source: str) -> Skipped:
    line, reason = draft.damage or (draft.line, "no bytes")
    if draft.usable and draft.damage:
        reason = f"{reason}; judged by the first {draft.usable} bytes"
    where = f"{source}:{line}"
    return Skipped(function=draft.name, where=where, reason=reason, damaged=draft.damage is not None)


def _function(draft: _Draft, source: str) -> Function:
    space = ConfigSpace(bytes(draft.data[: draft.usable])) if draft.usable else None
    return Function(
        space=space or ConfigSpace(b""),
        bdf=draft.bdf,
        source=source,
        line=draft.line,
        lines=draft.lines if space else draft.decoded.lines,
        bar_sizes=draft.decoded.sizes(space),
        decoded_msix=None if space else draft.decoded.msix,
    )


def _with_vf_sizes(functions: Sequence[Function]) -> tuple[Function, ...]:
    """Return the functions, each PF with the BAR sizes that the words of its first VF tell."""
    sizes = {each.bdf: each.bar_sizes for each in functions if each.has_vf_ids}
    return tuple(replace(each, vf_bar_sizes=sizes.get(_first_vf(each), {})) for each in functions)


def _first_vf(function: Function) -> Bdf | None:
    return next((bdf for _, bdf in vf_addresses(function)), None)

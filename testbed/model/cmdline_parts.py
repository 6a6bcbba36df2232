"""The parts of a kernel command line: what can be taken out of it, one by one, and the line without it.

A part is a whole option, or one sub-option of an option that is a comma list of independent ones. Every occurrence of a
repeated option is a part of its own, in its place: whether the kernel takes the last one or all of them is for the
guest to say, a search over parts need not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.cmdline import name_and_value, takes_channel

if TYPE_CHECKING:
    from collections.abc import Collection

    from testbed.model.cmdline import CommandLine

#: options whose value is a comma list of sub-options, each read for itself. Not in it, since their commas join one
#: value: mitigations= and the single mitigations' "auto,nosmt" (kernel/cpu.c, arch/x86/kernel/cpu/bugs.c), acpi=,
#: console=, earlyprintk=, crashkernel=, slub_debug=, isolcpus= and every list of CPUs, lsm= (ordered), libata.force=
COMMA_LISTS = frozenset(
    {
        "pci",  # drivers/pci/pci.c, pci_setup; a sub-option's own values are joined with ";"
        "iommu",  # arch/x86/kernel/pci-dma.c, iommu_setup
        "intel_iommu",  # drivers/iommu/intel/iommu.c, intel_iommu_setup
        "amd_iommu",  # drivers/iommu/amd/init.c, parse_amd_iommu_options
        "intremap",  # drivers/iommu/irq_remapping.c, setup_irqremap
        "efi",  # drivers/firmware/efi/efi.c, parse_efi_cmdline
        "clearcpuid",  # arch/x86/kernel/cpu/common.c, cpu_parse_early_param
        "module_blacklist",  # kernel/module/main.c, blacklisted
        "initcall_blacklist",  # init/main.c, initcall_blacklist
        "vfio_pci.ids",  # drivers/vfio/pci/vfio_pci.c, vfio_pci_fill_ids
        "pci_stub.ids",  # drivers/pci/pci-stub.c
    }
)

CHANNEL_REASON = "it takes over the test bed's channel"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something that can be taken out of a command line."""

    word: int  #: which word of the line it is, or is in, from 0
    place: int = 0  #: which of the word's sub-options it is, from 0
    item: str  #: the word, or its sub-option with the stray commas at it
    head: str = ""  #: what stands before the word's sub-options: the name, maybe with a quote
    tail: str = ""  #: what stands after them: nothing, or a quote

    @property
    def text(self) -> str:
        """Return the part as it would stand alone: `quiet`, `pci=nomsi`."""
        return f"{self.head}{self.item}{self.tail}"


@dataclass(frozen=True, kw_only=True)
class Aside:
    """An option that no guest of the test bed can be given."""

    word: int  #: which word of the line it is, from 0
    text: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CommandLineParts:
    """A command line taken apart, and how to put some of it together again."""

    line: CommandLine
    parts: tuple[Part, ...]  #: the suspects, in the order of the line
    aside: tuple[Aside, ...]  #: what `rebuild` always leaves out
    init: tuple[str, ...]  #: init's arguments that are kept always, since they are not suspects

    def rebuild(self, kept: Collection[Part]) -> str:
        """Return the line with only these parts, in the order of the line, each with the blanks that stood before it.

        Sub-options that came from one comma list are joined in one again. With every part kept and nothing set aside
        this is the original text, blanks and all.
        """
        text, spans = self.line.text, self.line.spans
        left = self._words_left(frozenset(kept))
        if spans and not left:
            return ""
        ends = [0, *(end for _, end in spans)]
        blanks = [text[end:start] for end, (start, _) in zip(ends, spans, strict=False)]
        words = [blanks[number if place else 0] + word for place, (number, word) in enumerate(left.items())]
        return "".join(words) + text[ends[-1] :]

    def _words_left(self, kept: frozenset[Part]) -> dict[int, str]:
        """Return what is left of the line's words, by their number."""
        suspects = {part.word for part in self.parts}
        gone = {aside.word for aside in self.aside}
        dashes = len(self.line.options)
        if suspects and max(suspects) > dashes > max((part.word for part in kept), default=-1):
            gone.add(dashes)  # with init's last argument goes what separated it
        items: dict[int, list[Part]] = {}
        for part in self.parts:
            if part in kept:
                items.setdefault(part.word, []).append(part)
        left = {number: word for number, word in enumerate(self.line.words) if number not in suspects | gone}
        left |= {number: _join(parts) for number, parts in items.items()}
        return dict(sorted(left.items()))


def take_apart(line: CommandLine, *, with_init: bool = False) -> CommandLineParts:
    """Take a command line apart; init's arguments after `--` are parts only if asked for."""
    options, arguments = line.options, line.init_arguments
    parts: list[Part] = []
    aside: list[Aside] = []
    for number, option in enumerate(options):
        if takes_channel(option):
            aside.append(Aside(text=option, word=number, reason=CHANNEL_REASON))
        else:
            parts += _parts(number, option)
    if with_init:
        parts += [Part(word=number, item=word) for number, word in enumerate(arguments, len(options) + 1)]
    return CommandLineParts(
        line=line, parts=tuple(parts), aside=tuple(aside), init=() if with_init else tuple(arguments)
    )


def _join(parts: list[Part]) -> str:
    return parts[0].head + ",".join(part.item for part in parts) + parts[0].tail


def _parts(number: int, option: str) -> list[Part]:
    """Return the parts of one option; whose quotes are not simply around its value is one part."""
    head, value, tail = _frame(option)
    plain = '"' not in value and head.count('"') == len(tail)
    if name_and_value(option)[0] not in COMMA_LISTS or not plain:
        return [Part(word=number, item=option)]
    return [Part(word=number, place=place, item=item, head=head, tail=tail) for place, item in enumerate(_items(value))]


def _frame(option: str) -> tuple[str, str, str]:
    """Return what stands before an option's value, the value, and what stands after it: the quotes are around it."""
    key, equals, value = option.partition("=")
    head = key + equals
    if value.startswith('"'):
        head, value = head + '"', value[1:]
    return (head, value[:-1], '"') if '"' in head and value.endswith('"') else (head, value, "")


def _items(value: str) -> list[str]:
    """Split a comma list; an empty sub-option, which the kernel skips, stays with the one before it, or the first."""
    items: list[str] = []
    for item in value.split(","):
        if items and (not item or not items[-1].strip(",")):
            items[-1] += f",{item}"
        else:
            items.append(item)
    return items

"""A customer's kernel log: its last boot as records, and what it says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from testbed.model.kernel_log import LogRecord
from testbed.model.log_line import LogLine, read_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.explain.source import Line, Part

_BEGIN = re.compile(r"Linux version ([0-9][^\s]{0,80})")
_CMDLINE = re.compile(r"(?:Kernel command line|Command line): ?(.*)")
_MACHINE = re.compile(r"(?:DMI|Machine model): (.*)")
#: the level of a record is not in most formats; 6 is what most messages have
_LEVEL = 6
#: what it says of a host bridge
_BRIDGE = re.compile(r"ACPI: PCI Root Bridge|_OSC|PCI host bridge")
#: what a kernel says while it looks for host bridges and what is below them
_SCAN = re.compile(
    r"ACPI: PCI Root Bridge|acpi (?:PNP0A0[38]|ACPI0016):|\\_SB|_OSC|acpiphp: Slot|PCI host bridge|pci_bus |pci_root "
    r"|\s{0,2}pci ?[0-9a-f]{4}:"
)
#: what tells that messages are missing in the middle
_LOST = re.compile(r"Missed [0-9]+ kernel messages|printk messages dropped|some kernel messages are lost")


@dataclass(frozen=True, kw_only=True)
class BootLog:
    """The last boot in a log."""

    records: tuple[LogRecord, ...]
    earlier: tuple[LogRecord, ...] = ()  #: what the log holds of the boots before it
    boots: int = 1  #: how many boots the log holds
    whole: bool = True  #: it begins where the boot began
    stamps: Mapping[int, str] = field(default_factory=dict)  #: when each line's message was said, as the file has it

    def find(self, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], LogRecord]]:
        """Return every record in which a pattern is found, with the match."""
        if pattern not in self._found:
            matches = ((pattern.search(record.text), record) for record in self.records)
            self._found[pattern] = [(match, record) for match, record in matches if match]
        return self._found[pattern]

    def first(self, pattern: re.Pattern[str]) -> tuple[str, str]:
        """Return the first group of the first match and its line; two empty texts where there is none."""
        for record in self.records:
            if match := pattern.search(record.text):
                return match[1].strip(), record.reference
        return "", ""

    @cached_property
    def _found(self) -> dict[re.Pattern[str], list[tuple[re.Match[str], LogRecord]]]:
        """Return what was looked for already: each service is, below each host bridge."""
        return {}

    @cached_property
    def complete_by(self) -> tuple[str, ...]:
        """Return the lines by which nothing about a slot's driver is missing; empty if something may be.

        Those are the boot's first, and the first after the scan of the PCI buses: acpiphp and pciehp have their say
        before it. A log with a gap is not complete.
        """
        if not self.whole or not self.records or self.find(_LOST):
            return ()
        heads = [place for place, record in enumerate(self.records) if _BRIDGE.search(record.text)]
        after = self.records[heads[-1] + 1 if heads else 1 :]
        later = next((record for record in after if record.text and not _SCAN.match(record.text)), None)
        return (self.records[0].reference, later.reference) if later else ()

    @property
    def cmdline(self) -> tuple[str, str]:
        """Return the command line the kernel said it was given, and its line."""
        return self.first(_CMDLINE)

    @property
    def version(self) -> tuple[str, str]:
        """Return the kernel's version, and its line."""
        return self.first(_BEGIN)

    @property
    def hardware(self) -> tuple[str, str]:
        """Return what DMI or the device tree says of the machine, and its line."""
        return self.first(_MACHINE)


def read_log(part: Part) -> BootLog:
    """Read the last boot of a kernel log."""
    messages = [(line, read_line(line.text) or LogLine(text=line.text)) for line in part.lines]
    records = [_record(line, message, sequence) for sequence, (line, message) in enumerate(messages)]
    begins = [place for place, record in enumerate(records) if _BEGIN.match(record.text)]
    last = begins[-1] if begins else 0
    return BootLog(
        records=tuple(records[last:]),
        earlier=tuple(records[:last]),
        boots=max(len(begins), 1),
        whole=bool(begins),
        stamps={line.number: message.stamp for line, message in messages if message.stamp},
    )


def _record(line: Line, message: LogLine, sequence: int) -> LogRecord:
    return LogRecord(
        file=line.file,
        line=line.number,
        sequence=sequence,
        seconds=message.seconds,
        level=_LEVEL,
        text=message.text.strip(),
    )

"""A customer's kernel log: its last boot as records, and what it says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.explain.log_line import read_line
from testbed.model.kernel_log import LogRecord

if TYPE_CHECKING:
    from testbed.explain.source import Line, Part

_BEGIN = re.compile(r"Linux version ([0-9][^\s]{0,80})")
_CMDLINE = re.compile(r"(?:Kernel command line|Command line): ?(.*)")
_DMI = re.compile(r"DMI: (.*)")
#: the level of a record is not in most formats; 6 is what most messages have
_LEVEL = 6


@dataclass(frozen=True, kw_only=True)
class BootLog:
    """The last boot in a log."""

    records: tuple[LogRecord, ...]
    boots: int = 1  #: how many boots the log holds
    whole: bool = True  #: it begins where the boot began

    def find(self, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], LogRecord]]:
        """Return every record in which a pattern is found, with the match."""
        matches = ((pattern.search(record.text), record) for record in self.records)
        return [(match, record) for match, record in matches if match]

    def first(self, pattern: re.Pattern[str]) -> tuple[str, str]:
        """Return the first group of the first match and its line; two empty texts where there is none."""
        for record in self.records:
            if match := pattern.search(record.text):
                return match[1].strip(), record.reference
        return "", ""

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
        """Return what DMI says of the machine, and its line."""
        return self.first(_DMI)


def read_log(part: Part) -> BootLog:
    """Read the last boot of a kernel log."""
    records = [_record(line, sequence) for sequence, line in enumerate(part.lines)]
    begins = [place for place, record in enumerate(records) if _BEGIN.match(record.text)]
    last = begins[-1] if begins else 0
    return BootLog(records=tuple(records[last:]), boots=max(len(begins), 1), whole=bool(begins))


def _record(line: Line, sequence: int) -> LogRecord:
    seconds, text = read_line(line.text) or (0.0, line.text)
    return LogRecord(
        file=line.file, line=line.number, sequence=sequence, seconds=seconds, level=_LEVEL, text=text.strip()
    )

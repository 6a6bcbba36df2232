"""The PCIe errors of a log, counted: who had which, how many, and who reported them.

One error has several lines: a root port's announcement, then what the function says of itself. Either may be missing: a
kernel since 6.16 limits their rate (a57f2bfb4a58), and one that finds nothing at the source prints no more. So a
function's reports of a severity are as many as its lines of the kind that it has more of.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.model.aer import CORRECTABLE, UNCORRECTABLE, ErrorSeverity, errors_in
from testbed.model.aer_log import parse_announcement, parse_bus_error, parse_firmware_status, parse_status
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.model.kernel_log import LogRecord

_SECTION = re.compile(r"\[Hardware Error\]:\s+section_type: PCIe error")
_FIRMWARE_SEVERITY = re.compile(r"\[Hardware Error\]: event severity: (corrected|recoverable|fatal|info)")
_FIRMWARE_DEVICE = re.compile(r"\[Hardware Error\]:\s+device_id: ([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])")
_FIRMWARE_BITS = re.compile(r"\[Hardware Error\]:\s+aer_(cor|uncor)_status: 0x([0-9a-f]{8})")
_CONTAINMENT = re.compile(
    r"([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]): DPC: containment event, status:(0x[0-9a-f]{4})"
)
_INJECTED = re.compile(r"aer_inject: Injecting errors [0-9a-f]{8}/[0-9a-f]{8} into device (\S{7,20})")
_SEVERITIES = {
    "corrected": ErrorSeverity.CORRECTABLE,
    "recoverable": ErrorSeverity.NON_FATAL,
    "fatal": ErrorSeverity.FATAL,
}


@dataclass(frozen=True, kw_only=True)
class ErrorCount:
    """The errors of one function and one severity."""

    device: Bdf
    severity: ErrorSeverity
    reports: int
    names: tuple[str, ...]  #: the status bits that were set, as the kernel spells them
    layer: str  #: `Physical Layer`; empty where no line says it
    ports: tuple[Bdf, ...]  #: the root ports that announced them
    by_firmware: bool  #: the firmware saw them first and handed them on
    first: LogRecord
    last: LogRecord


@dataclass(frozen=True, kw_only=True)
class Containment:
    """A port that took its link down (DPC)."""

    port: Bdf
    events: int
    status: str  #: DPC Status of the last one
    last: LogRecord


@dataclass(frozen=True, kw_only=True)
class ErrorTally:
    """Every error of a log."""

    errors: tuple[ErrorCount, ...] = ()
    containments: tuple[Containment, ...] = ()
    injected: tuple[LogRecord, ...] = ()  #: lines of aer_inject, which made errors on purpose


@dataclass(kw_only=True)
class _Draft:
    device: Bdf
    severity: ErrorSeverity
    first: LogRecord
    last: LogRecord
    by_firmware: bool = False
    lines: Counter[str] = field(default_factory=Counter)
    bits: int = 0
    layer: str = ""
    ports: dict[Bdf, None] = field(default_factory=dict)

    def value(self) -> ErrorCount:
        table = CORRECTABLE if self.severity is ErrorSeverity.CORRECTABLE else UNCORRECTABLE
        return ErrorCount(
            device=self.device,
            severity=self.severity,
            reports=max(self.lines.values()),
            names=tuple(each.kernel for each in errors_in(self.bits, table)),
            layer=self.layer,
            ports=tuple(self.ports),
            by_firmware=self.by_firmware,
            first=self.first,
            last=self.last,
        )


class _Reader:
    """Reads a log record by record."""

    def __init__(self) -> None:
        self._drafts: dict[tuple[Bdf, ErrorSeverity], _Draft] = {}
        self._containments: dict[Bdf, Containment] = {}
        self._injected: list[LogRecord] = []
        #: the latest error of a function, which a status line goes on with
        self._latest: dict[Bdf, _Draft] = {}
        self._firmware_severity = ErrorSeverity.CORRECTABLE
        self._firmware_device: _Draft | None = None
        self._in_section = False

    @property
    def tally(self) -> ErrorTally:
        return ErrorTally(
            errors=tuple(draft.value() for draft in self._drafts.values()),
            containments=tuple(self._containments.values()),
            injected=tuple(self._injected),
        )

    def read(self, record: LogRecord) -> None:
        text = record.text
        if announced := parse_announcement(text):
            draft = self._count("announced", announced.source, announced.severity, record)
            draft.ports[announced.port] = None
        elif error := parse_bus_error(text):
            draft = self._count("bus error", error.device, error.severity, record)
            draft.layer = draft.layer or error.layer
        elif status := parse_status(text):
            if status.device in self._latest:
                self._latest[status.device].bits |= status.status
        elif status := parse_firmware_status(text):
            self._firmware_status(status.device, status.status, record)
        elif "[Hardware Error]" in text:
            self._read_firmware(record)
        elif match := _CONTAINMENT.search(text):
            self._contain(Bdf.parse(match[1]), match[2], record)
        elif _INJECTED.search(text):
            self._injected.append(record)

    def _count(self, kind: str, device: Bdf, severity: ErrorSeverity, record: LogRecord) -> _Draft:
        fresh = _Draft(device=device, severity=severity, first=record, last=record)
        draft = self._drafts.setdefault((device, severity), fresh)
        draft.lines[kind] += 1
        draft.last = record
        self._latest[device] = draft
        return draft

    def _firmware_status(self, device: Bdf, bits: int, record: LogRecord) -> None:
        """Take `aer_status:`; what section it is of, if any, has been counted."""
        draft = self._latest.get(device)
        if draft is None:
            draft = self._count("handed on", device, ErrorSeverity.CORRECTABLE, record)
        elif "section" not in draft.lines:
            draft.lines["handed on"] += 1
        draft.by_firmware = True
        draft.bits |= bits
        draft.last = record

    def _read_firmware(self, record: LogRecord) -> None:
        text = record.text
        if match := _FIRMWARE_SEVERITY.search(text):
            self._firmware_severity = _SEVERITIES.get(match[1], ErrorSeverity.CORRECTABLE)
            self._in_section, self._firmware_device = False, None
        elif _SECTION.search(text):
            self._in_section = True
        elif self._in_section and (match := _FIRMWARE_DEVICE.search(text)):
            self._firmware_device = self._count("section", Bdf.parse(match[1]), self._firmware_severity, record)
            self._firmware_device.by_firmware = True
        elif self._firmware_device and (match := _FIRMWARE_BITS.search(text)):
            is_correctable = self._firmware_device.severity is ErrorSeverity.CORRECTABLE
            if is_correctable == (match[1] == "cor"):
                self._firmware_device.bits |= int(match[2], 16)

    def _contain(self, port: Bdf, status: str, record: LogRecord) -> None:
        known = self._containments.get(port)
        events = known.events + 1 if known else 1
        self._containments[port] = Containment(port=port, events=events, status=status, last=record)


def tally_errors(records: Iterable[LogRecord]) -> ErrorTally:
    """Count the PCIe errors of a kernel log."""
    reader = _Reader()
    for record in records:
        reader.read(record)
    return reader.tally

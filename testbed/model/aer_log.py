"""What Linux says of AER errors: who announced which error of whom, and the registers it read.

Source: drivers/pci/pcie/aer.c of Linux 5.10 to 7.1, and the log of 7.3.4. The words changed: "Corrected" and
"Uncorrected" became "Correctable" and "Uncorrectable" in 6.8 (02a06f5f1a6a); "error received: B" became "error message
received from B" in 5.16 (1291b716bbf9) and stable kernels, and "Error message" by 7.3; header words got `0x` in 6.15;
"(no details found" may follow an announcement in 7.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from testbed.model.aer import ErrorSeverity
from testbed.model.pci import Bdf

_BDF = r"([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
_SEVERITY = r"(Correct(?:ed|able)|Uncorrect(?:ed|able) \((?:Non-)?Fatal\))"
_ANNOUNCED = re.compile(rf"{_BDF}: AER: (Multiple )?{_SEVERITY} [Ee]rror (?:message )?received(?: from|:) ?{_BDF}")
_STATUS = re.compile(rf"{_BDF}:   device \[[0-9a-f:]{{9}}\] error status/mask=([0-9a-f]{{8}})/([0-9a-f]{{8}})")
_HEADER = re.compile(rf"{_BDF}: (?:AER: )?  TLP Header: ((?:0x)?[0-9a-f]{{8}}(?: (?:0x)?[0-9a-f]{{8}}){{3}})")


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """A root port's word that an error message came."""

    port: Bdf
    source: Bdf
    severity: ErrorSeverity
    several: bool  #: more than one came, and the source is that of the first


@dataclass(frozen=True, kw_only=True)
class LoggedStatus:
    """A function's error status and mask as the kernel read them."""

    device: Bdf
    status: int
    mask: int


@dataclass(frozen=True, kw_only=True)
class LoggedHeader:
    """The header of the TLP that an error is about."""

    device: Bdf
    words: tuple[int, int, int, int]


def parse_announcement(text: str) -> Announcement | None:
    """Read `pcieport 0000:00:02.0: AER: … error message received from 0000:01:00.0`; None if a line is not that."""
    match = _ANNOUNCED.search(text)
    if not match:
        return None
    port, several, severity, source = match.groups()
    return Announcement(
        port=Bdf.parse(port), source=Bdf.parse(source), severity=_severity(severity), several=bool(several)
    )


def parse_status(text: str) -> LoggedStatus | None:
    """Read an `error status/mask=` line; None if a line is not that."""
    match = _STATUS.search(text)
    if not match:
        return None
    return LoggedStatus(device=Bdf.parse(match[1]), status=int(match[2], 16), mask=int(match[3], 16))


def parse_header(text: str) -> LoggedHeader | None:
    """Read a `TLP Header:` line; None if a line is not that."""
    match = _HEADER.search(text)
    if not match:
        return None
    first, second, third, fourth = (int(word, 16) for word in match[2].split())
    return LoggedHeader(device=Bdf.parse(match[1]), words=(first, second, third, fourth))


def _severity(words: str) -> ErrorSeverity:
    if words.startswith("Correct"):
        return ErrorSeverity.CORRECTABLE
    return ErrorSeverity.NON_FATAL if "Non-Fatal" in words else ErrorSeverity.FATAL

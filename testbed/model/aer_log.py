"""What Linux says of PCIe errors: who announced which error of whom, and the registers it read.

Source: drivers/pci/pcie/aer.c of Linux 2.6.32 to 7.1, and the log of 7.3.4. The words changed: up to Linux 4 the source
is a routing id, "error received: id=00e4"; "Corrected" and "Uncorrected" became "Correctable" and "Uncorrectable" in
6.8 (02a06f5f1a6a); "error received: B" became "error message received from B" in 5.16 (1291b716bbf9) and in stable
kernels, and "Error message" by 7.3; header words got `0x` in 6.15; "(no details found" may follow an announcement in
7.0, and "CXL Bus Error" stand for "PCIe Bus Error". Where the firmware handles errors first, they come by way of APEI:
drivers/acpi/apei, cper_print_pcie() in drivers/firmware/efi/cper.c, pci_print_aer().
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from testbed.model.aer import ErrorSeverity
from testbed.model.pci import Bdf

_BDF = r"([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
_SEVERITY = r"(Correct(?:ed|able)|Uncorrect(?:ed|able) \((?:Non-)?Fatal\))"
_ANNOUNCED = re.compile(
    rf"{_BDF}(?::pcie[0-9a-f]{{2,3}})?: AER: (Multiple )?{_SEVERITY} [Ee]rror (?:message )?received"
    rf"(?: from|:) ?(?:{_BDF}|id=([0-9a-f]{{4}}))"
)
_BUS_ERROR = re.compile(
    rf"{_BDF}: (?:AER: )?(?:PCIe|CXL) Bus Error: severity={_SEVERITY}, type=([A-Z][A-Za-z ]{{2,30}})"
)
_STATUS = re.compile(
    rf"{_BDF}: (?:AER: )?  device \[[0-9a-f:]{{9}}\] error status/mask=([0-9a-f]{{8}})/([0-9a-f]{{8}})"
)
_FIRMWARE_STATUS = re.compile(rf"{_BDF}: AER: aer_status: 0x([0-9a-f]{{8}}), aer_mask: 0x([0-9a-f]{{8}})")
_HEADER = re.compile(rf"{_BDF}: (?:AER: )?  TLP Header: ((?:0x)?[0-9a-f]{{8}}(?: (?:0x)?[0-9a-f]{{8}}){{3}})")


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """A root port's report that an error message arrived."""

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


@dataclass(frozen=True, kw_only=True)
class BusError:
    """A function reported to have an error, and where in it."""

    device: Bdf
    severity: ErrorSeverity
    layer: str  #: `Physical Layer`, or what else the kernel calls the type


def parse_announcement(text: str) -> Announcement | None:
    """Read `pcieport 0000:00:02.0: AER: … error message received from 0000:01:00.0`; None if a line is not that."""
    match = _ANNOUNCED.search(text)
    if not match:
        return None
    name, several, severity, source, routing_id = match.groups()
    port = Bdf.parse(name)
    return Announcement(
        port=port,
        source=Bdf.parse(source) if source else _by_routing_id(port.domain, int(routing_id, 16)),
        severity=_severity(severity),
        several=bool(several),
    )


def parse_bus_error(text: str) -> BusError | None:
    """Read a `PCIe Bus Error: severity=` line; None if a line is not that."""
    match = _BUS_ERROR.search(text)
    if not match:
        return None
    return BusError(device=Bdf.parse(match[1]), severity=_severity(match[2]), layer=match[3].strip())


def parse_status(text: str) -> LoggedStatus | None:
    """Read an `error status/mask=` line; None if a line is not that."""
    return _status(_STATUS.search(text))


def parse_firmware_status(text: str) -> LoggedStatus | None:
    """Read the `aer_status:` line of an error that the firmware reported; None if a line is not that."""
    return _status(_FIRMWARE_STATUS.search(text))


def parse_header(text: str) -> LoggedHeader | None:
    """Read a `TLP Header:` line; None if a line is not that."""
    match = _HEADER.search(text)
    if not match:
        return None
    first, second, third, fourth = (int(word, 16) for word in match[2].split())
    return LoggedHeader(device=Bdf.parse(match[1]), words=(first, second, third, fourth))


def _status(match: re.Match[str] | None) -> LoggedStatus | None:
    if match is None:
        return None
    return LoggedStatus(device=Bdf.parse(match[1]), status=int(match[2], 16), mask=int(match[3], 16))


def _by_routing_id(domain: int, routing_id: int) -> Bdf:
    return Bdf(domain, routing_id >> 8, routing_id >> 3 & 0x1F, routing_id & 7)


def _severity(words: str) -> ErrorSeverity:
    if words.startswith("Correct"):
        return ErrorSeverity.CORRECTABLE
    return ErrorSeverity.NON_FATAL if "Non-Fatal" in words else ErrorSeverity.FATAL

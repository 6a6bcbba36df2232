"""Advanced Error Reporting: its errors by every name they have, and its registers.

Source: PCIe Base 6.3, section 7.8.4; QEMU hw/pci/pcie_aer.c (7.2 to 10.2); Linux drivers/pci/pcie/aer.c (5.10 to 7.1).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model import capabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.config_space import ConfigSpace

LENGTH = 0x2C
#: root ports and root complex event collectors have three registers more
ROOT_LENGTH = 0x38

STATUS_AT = 0x04
MASK_AT = 0x08
SEVERITY_AT = 0x0C
CORRECTABLE_STATUS_AT = 0x10
CORRECTABLE_MASK_AT = 0x14
CONTROL_AT = 0x18
HEADER_LOG_AT = 0x1C
ROOT_COMMAND_AT = 0x2C
ROOT_STATUS_AT = 0x30


class ErrorSeverity(enum.StrEnum):
    """How severe an error is."""

    CORRECTABLE = "correctable"
    NON_FATAL = "non-fatal"
    FATAL = "fatal"


@dataclass(frozen=True, kw_only=True)
class AerError:
    """One error of AER."""

    bit: int
    kernel: str  #: as the kernel's log and lspci spell it
    qemu: str | None  #: as QEMU's injector takes it; None if it has no name for it
    severity: ErrorSeverity  #: the default; an uncorrectable one's can be changed
    masked: bool = False  #: by default

    @property
    def mask(self) -> int:
        """Return its bit in the status, mask and severity registers."""
        return 1 << self.bit


@dataclass(frozen=True, kw_only=True)
class ErrorRecord:
    """One or more errors that a function has at the same moment: bits of its two status registers."""

    errors: tuple[AerError, ...]

    @property
    def correctable(self) -> int:
        """Return the bits of the Correctable Error Status."""
        return sum(each.mask for each in self.errors if each.severity is ErrorSeverity.CORRECTABLE)

    @property
    def uncorrectable(self) -> int:
        """Return the bits of the Uncorrectable Error Status."""
        return sum(each.mask for each in self.errors if each.severity is not ErrorSeverity.CORRECTABLE)

    @property
    def worst(self) -> AerError:
        """Return the error that decides the record's fate, by the default severities."""
        return max(self.errors, key=lambda each: list(ErrorSeverity).index(each.severity))


def _errors(rows: Sequence[tuple[int, str, str | None, ErrorSeverity, bool]]) -> tuple[AerError, ...]:
    return tuple(
        AerError(bit=bit, kernel=kernel, qemu=qemu, severity=severity, masked=masked)
        for bit, kernel, qemu, severity, masked in rows
    )


_COR, _NON, _FATAL = ErrorSeverity.CORRECTABLE, ErrorSeverity.NON_FATAL, ErrorSeverity.FATAL

#: bit, the kernel's name, QEMU's, the default severity, masked by default (tables of 7.8.4.3 and 7.8.4.4)
UNCORRECTABLE = _errors(
    (
        (4, "DLP", "DLP", _FATAL, False),
        (5, "SDES", "SDN", _FATAL, False),
        (12, "TLP", "POISON_TLP", _NON, False),
        (13, "FCP", "FCP", _FATAL, False),
        (14, "CmpltTO", "COMP_TIME", _NON, False),
        (15, "CmpltAbrt", "COMP_ABORT", _NON, False),
        (16, "UnxCmplt", "UNX_COMP", _NON, False),
        (17, "RxOF", "RX_OVER", _FATAL, False),
        (18, "MalfTLP", "MALF_TLP", _FATAL, False),
        (19, "ECRC", "ECRC", _NON, False),
        (20, "UnsupReq", "UNSUP", _NON, False),
        (21, "ACSViol", "ACSV", _NON, False),
        (22, "UncorrIntErr", "INTN", _FATAL, True),
        (23, "BlockedTLP", "MCBTLP", _NON, False),
        (24, "AtomicOpBlocked", "ATOP_EBLOCKED", _NON, False),
        (25, "TLPBlockedErr", "TLP_PRF_BLOCKED", _NON, False),
        (26, "PoisonTLPBlocked", None, _NON, True),
        (27, "DMWrReqBlocked", None, _NON, False),
        (28, "IDECheck", None, _FATAL, False),
        (29, "MisIDETLP", None, _NON, False),
        (30, "PCRC_CHECK", None, _NON, False),
        (31, "TLPXlatBlocked", None, _NON, False),
    )
)
#: the same of the correctable ones (7.8.4.5 and 7.8.4.6)
CORRECTABLE = _errors(
    (
        (0, "RxErr", "RCVR", _COR, False),
        (6, "BadTLP", "BAD_TLP", _COR, False),
        (7, "BadDLLP", "BAD_DLLP", _COR, False),
        (8, "Rollover", "REP_ROLL", _COR, False),
        (12, "Timeout", "REP_TIMER", _COR, False),
        (13, "NonFatalErr", "ADV_NONFATAL", _COR, True),
        (14, "CorrIntErr", "INTERNAL", _COR, True),
        (15, "HeaderOF", "HL_OVERFLOW", _COR, True),
    )
)


def errors_in(bits: int, errors: Sequence[AerError]) -> tuple[AerError, ...]:
    """Return the errors whose bit is set in a register; bits that belong to no error are skipped."""
    return tuple(error for error in errors if bits & error.mask)


@dataclass(frozen=True, kw_only=True)
class RootErrors:
    """What a root port adds to AER."""

    command: int  #: bit 0 correctable, 1 non-fatal, 2 fatal: raises an interrupt
    status: int
    correctable_source: int  #: routing id of who reported
    uncorrectable_source: int


@dataclass(frozen=True, kw_only=True)
class Aer:
    """The AER registers of a function."""

    offset: int
    status: int
    mask: int
    severity: int
    correctable_status: int
    correctable_mask: int
    control: int
    header_log: tuple[int, int, int, int]
    root: RootErrors | None  #: None on what is no root port

    @property
    def first_error(self) -> int:
        """Return the bit of the first uncorrectable error; it means something only while that is latched."""
        return self.control & 0x1F


def read_aer(space: ConfigSpace, *, root: bool = False) -> Aer | None:
    """Return the function's AER registers, with the root's if it is one, or None if there are none that fit."""
    found = space.extended.find(capabilities.AER)
    if not found or not space.fits(found.offset, ROOT_LENGTH if root else LENGTH):
        return None
    at = found.offset
    first, second, third, fourth = (space.u32(at + HEADER_LOG_AT + 4 * word) for word in range(4))
    return Aer(
        offset=at,
        status=space.u32(at + STATUS_AT),
        mask=space.u32(at + MASK_AT),
        severity=space.u32(at + SEVERITY_AT),
        correctable_status=space.u32(at + CORRECTABLE_STATUS_AT),
        correctable_mask=space.u32(at + CORRECTABLE_MASK_AT),
        control=space.u32(at + CONTROL_AT),
        header_log=(first, second, third, fourth),
        root=_read_root(space, at) if root else None,
    )


def _read_root(space: ConfigSpace, at: int) -> RootErrors:
    return RootErrors(
        command=space.u32(at + ROOT_COMMAND_AT),
        status=space.u32(at + ROOT_STATUS_AT),
        correctable_source=space.u16(at + 0x34),
        uncorrectable_source=space.u16(at + 0x36),
    )

"""The path of an error message: the registers of a function, and of every port above it up to its root port."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.model.aer import ErrorSeverity, read_aer
from testbed.model.config_space import SIZES, ConfigSpace
from testbed.model.express import read_express
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.guest.guest import Guest
    from testbed.model.aer import Aer, AerError
    from testbed.model.express import Express

_BDF = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_PREFIX_LOG_AT = 0x38
#: End-End TLP Prefix Supported (PCIe Base 6.3, 7.5.3.15)
_DEVICE_CAPABILITIES_2_AT, _PREFIXES = 0x24, 1 << 21
#: Root Error Status: what was received; the highest bits are the interrupt's number
_RECEIVED = 0x7F
_BRIDGE_CONTROL_AT = 0x3E
_BRIDGE_SERR = 1 << 1
#: bits of Device Control
ENABLES = {ErrorSeverity.CORRECTABLE: 1 << 0, ErrorSeverity.NON_FATAL: 1 << 1, ErrorSeverity.FATAL: 1 << 2}


@dataclass(frozen=True, kw_only=True)
class ErrorRegisters:
    """What one function's registers say about errors."""

    bdf: Bdf
    space: ConfigSpace
    express: Express
    aer: Aer | None
    prefix_log: tuple[int, int, int, int] | None  #: None where the function takes no TLP prefixes

    def severity_of(self, error: AerError) -> ErrorSeverity:
        """Return an error's severity here: for an uncorrectable one the severity register decides."""
        if error.severity is ErrorSeverity.CORRECTABLE or self.aer is None:
            return error.severity
        return ErrorSeverity.FATAL if self.aer.severity & error.mask else ErrorSeverity.NON_FATAL

    def worst_of(self, errors: Sequence[AerError]) -> ErrorSeverity:
        """Return the highest severity among several errors here."""
        return max((self.severity_of(each) for each in errors), key=list(ErrorSeverity).index)

    def masks(self, error: AerError) -> bool:
        """Return whether an error is masked."""
        if self.aer is None:
            return False
        correctable = error.severity is ErrorSeverity.CORRECTABLE
        return bool((self.aer.correctable_mask if correctable else self.aer.mask) & error.mask)

    def masks_all(self, errors: Sequence[AerError]) -> bool:
        """Return whether every one of these errors is masked."""
        return all(self.masks(error) for error in errors)

    def latched(self, error: AerError) -> bool:
        """Return whether an error's status bit is set."""
        if self.aer is None:
            return False
        correctable = error.severity is ErrorSeverity.CORRECTABLE
        return bool((self.aer.correctable_status if correctable else self.aer.status) & error.mask)

    def reports(self, severity: ErrorSeverity) -> bool:
        """Return whether Device Control lets the function send messages of this severity."""
        return bool(self.express.control & ENABLES[severity])

    @property
    def forwards(self) -> bool:
        """Return whether a port passes on what comes from below: SERR# of its Bridge Control."""
        return not self.is_bridge or bool(self.space.u16(_BRIDGE_CONTROL_AT) & _BRIDGE_SERR)

    @property
    def is_bridge(self) -> bool:
        """Return whether it is a port."""
        return self.space.layout == 1


@dataclass(frozen=True, kw_only=True)
class ErrorPath:
    """A function and the ports above it."""

    functions: tuple[ErrorRegisters, ...]  #: the root port first, the function itself last
    evidence: str  #: the answer's line in shell.jsonl

    @property
    def device(self) -> ErrorRegisters:
        """Return the function itself."""
        return self.functions[-1]

    @property
    def root(self) -> ErrorRegisters | None:
        """Return the root port; None if there is none: the function is part of the root complex."""
        return self.functions[0] if self.functions[0].express.is_root else None

    @property
    def root_was_told(self) -> bool:
        """Return whether an error message has reached the root port and nothing has taken note of it yet."""
        root = self.root
        return bool(root and root.aer and root.aer.root and root.aer.root.status & _RECEIVED)

    def closed(self, severity: ErrorSeverity) -> str | None:
        """Say which register keeps a message of this severity from the root port; None if none does.

        QEMU asks every function on the way for its Device Control, and every port for SERR# in Bridge Control
        (hw/pci/pcie_aer.c, 7.2 to 10.2).
        """
        for each in reversed(self.functions):
            if not each.reports(severity):
                return f"Device Control of {each.bdf} is {each.express.control:#06x}: {severity} reporting is off"
            if not each.forwards:
                return f"Bridge Control of {each.bdf} is {each.space.u16(_BRIDGE_CONTROL_AT):#06x}: SERR# is off"
        return None


async def read_error_path(guest: Guest, bdf: Bdf) -> ErrorPath | None:
    """Read the registers as the guest sees them now; None if it sees no PCI Express capability in the function."""
    found = await show(guest, bdf.sysfs)
    chain = [Bdf.parse(name) for name in _BDF.findall(found.links.get(bdf.sysfs, ""))]
    shown = await show(guest, *(f"{each.sysfs}/config" for each in chain or [bdf]))
    functions = [_registers(each, shown.files.get(f"{each.sysfs}/config", b"")) for each in chain]
    express = tuple(each for each in functions if each is not None)
    if not express or express[-1].bdf != bdf:
        return None
    return ErrorPath(functions=express, evidence=shown.evidence)


def _registers(bdf: Bdf, data: bytes) -> ErrorRegisters | None:
    """Return a function's registers, or None if it is no PCIe function: conventional bridges have none of this."""
    if len(data) not in SIZES:
        return None
    space = ConfigSpace(data)
    express = read_express(space)
    if express is None:
        return None
    aer = read_aer(space, root=express.is_root)
    return ErrorRegisters(bdf=bdf, space=space, express=express, aer=aer, prefix_log=_prefix_log(space, express, aer))


def _prefix_log(space: ConfigSpace, express: Express, aer: Aer | None) -> tuple[int, int, int, int] | None:
    """Return the TLP Prefix Log; None where the function takes no prefixes: another capability may stand there."""
    if aer is None or express.version < 2 or not space.u32(express.offset + _DEVICE_CAPABILITIES_2_AT) & _PREFIXES:
        return None
    if not space.fits(aer.offset + _PREFIX_LOG_AT, 16):
        return None
    first, second, third, fourth = (space.u32(aer.offset + _PREFIX_LOG_AT + 4 * word) for word in range(4))
    return first, second, third, fourth

"""The configuration space of a function that the test bed plays: its registers, and a reset that takes its time.

Source: PCI 3.0, 6.1 and 6.8.2 (MSI-X); PCIe Base 6.3, 7.5.3 (capability) and 6.6.2: a function-level reset must be done
within 100 ms, and until then its configuration space reads as all ones.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testbed.machine.proxy_message import ConfigAccess

#: QEMU's PCI test device (docs/specs/pci-ids): no driver of Linux takes it
VENDOR, DEVICE = 0x1B36, 0x0005
_CLASS = 0xFF  # unassigned
BAR_SIZE = 0x1000
#: Command, Status, Class Code's upper byte, BAR 0, Subsystem, the first capability
_COMMAND, _STATUS, _BASE_CLASS, _BAR0, _SUBSYSTEM, _CAPABILITIES, _LINE = 0x04, 0x06, 0x0B, 0x10, 0x2C, 0x34, 0x3C
_HAS_CAPABILITIES = 0x10
_EXPRESS, _MSIX = 0x40, 0x80  #: where the capabilities stand
_EXPRESS_ID, _MSIX_ID = 0x10, 0x11
#: version 2 of an endpoint's; Device Capabilities: function-level reset; Device Control: initiate it
_ENDPOINT, _CAN_FLR, _INITIATE_FLR = 0x0002, 1 << 28, 1 << 15
_DEVICE_CAPABILITIES, _DEVICE_CONTROL, _MSIX_CONTROL = _EXPRESS + 4, _EXPRESS + 8, _MSIX + 2


@dataclass(frozen=True, kw_only=True)
class Msix:
    """Where MSI-X table and pending bit array stand in BAR 0."""

    vectors: int
    table: int
    pending: int


class PlayedConfig:
    """256 bytes of configuration space: one BAR of memory, and the capabilities that were asked for."""

    def __init__(self, *, flr_seconds: float | None = None, msix: Msix | None = None) -> None:
        self._bytes, self._writable = bytearray(256), bytearray(256)
        self._flr_seconds = flr_seconds or 0.0
        self._absent_until = 0.0
        self.resets = 0  #: function-level resets that were asked for
        self.unanswered = 0  #: reads that came while one was going on
        self._identify()
        if flr_seconds is not None:
            self._add_express()
        if msix:
            self._add_msix(msix)

    def read(self, access: ConfigAccess) -> int:
        """Return what stands there; all ones while the function is being reset."""
        if time.monotonic() < self._absent_until:
            self.unanswered += 1
            return (1 << 8 * access.width) - 1
        return int.from_bytes(self._bytes[access.address : access.address + access.width], "little")

    def write(self, access: ConfigAccess) -> None:
        """Take a write; one that asks for a reset begins it, and what is written meanwhile is lost."""
        if time.monotonic() < self._absent_until:
            return
        for n, byte in enumerate(access.value.to_bytes(4, "little")[: access.width]):
            at = access.address + n
            self._bytes[at] = self._bytes[at] & ~self._writable[at] | byte & self._writable[at]
        if access.address == _DEVICE_CONTROL and access.value & _INITIATE_FLR:
            self.resets += 1
            self._absent_until = time.monotonic() + self._flr_seconds

    def _identify(self) -> None:
        struct.pack_into("<HH", self._bytes, 0, VENDOR, DEVICE)
        self._bytes[_BASE_CLASS] = _CLASS
        struct.pack_into("<HH", self._bytes, _SUBSYSTEM, VENDOR, DEVICE)
        struct.pack_into("<H", self._writable, _COMMAND, 0xFFFF)
        struct.pack_into("<I", self._writable, _BAR0, 0x1_0000_0000 - BAR_SIZE)
        self._writable[_LINE] = 0xFF

    def _add_express(self) -> None:
        self._link(_EXPRESS)
        struct.pack_into("<BBHI", self._bytes, _EXPRESS, _EXPRESS_ID, 0, _ENDPOINT, _CAN_FLR)
        struct.pack_into("<H", self._writable, _DEVICE_CONTROL, 0xFFFF ^ _INITIATE_FLR)

    def _add_msix(self, msix: Msix) -> None:
        self._link(_MSIX)
        places = (msix.vectors - 1, msix.table, msix.pending)
        struct.pack_into("<BBHII", self._bytes, _MSIX, _MSIX_ID, 0, *places)
        struct.pack_into("<H", self._writable, _MSIX_CONTROL, 0xC000)

    def _link(self, place: int) -> None:
        """Append a capability to the list."""
        struct.pack_into("<H", self._bytes, _STATUS, _HAS_CAPABILITIES)
        last = _CAPABILITIES
        while self._bytes[last]:
            last = self._bytes[last] + 1
        self._bytes[last] = place

"""Configuration spaces made by hand, a register at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.function import Function
from testbed.model.config_space import ConfigSpace
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Mapping

EXPRESS_AT = 0x40
MSIX_AT = 0x80
AER_AT = 0x100
SRIOV_AT = 0x160


class Bytes:
    """A configuration space while it is made; it begins as an endpoint's without capabilities."""

    def __init__(self, size: int = 4096) -> None:
        self.data = bytearray(size)
        self.u32(0x00, 0x10D38086)
        self.u16(0x04, 0x0007)
        self._last = 0x34
        self._last_extended = 0

    def u8(self, at: int, value: int) -> Bytes:
        self.data[at] = value
        return self

    def u16(self, at: int, value: int) -> Bytes:
        self.data[at : at + 2] = value.to_bytes(2, "little")
        return self

    def u32(self, at: int, value: int) -> Bytes:
        self.data[at : at + 4] = value.to_bytes(4, "little")
        return self

    def capability(self, at: int, capability_id: int) -> Bytes:
        """Append a capability to the standard chain."""
        self.u16(0x06, 0x0010)
        self.u8(self._last, at).u8(at, capability_id)
        self._last = at + 1
        return self

    def extended(self, at: int, capability_id: int) -> Bytes:
        """Append a capability to the extended chain; the first one has to be at 0x100."""
        if self._last_extended:
            header = int.from_bytes(self.data[self._last_extended : self._last_extended + 4], "little")
            self.u32(self._last_extended, header & 0xFFFFF | at << 20)
        self._last_extended = at
        return self.u32(at, 0x10000 | capability_id)

    def express(self, *, port_type: int = 0, at: int = EXPRESS_AT) -> Bytes:
        """Add PCI Express with a link of 16 GT/s x4 that runs at 2.5 GT/s x1, and all reports on."""
        self.capability(at, 0x10).u16(at + 2, 2 | port_type << 4)
        self.u32(at + 4, 2).u16(at + 8, 0x000F)
        return self.u32(at + 0x0C, 0x44).u16(at + 0x12, 0x11)

    def msix(self, *, vectors: int, table: int, pba: int, at: int = MSIX_AT, control: int = 0) -> Bytes:
        """Add MSI-X; table and PBA are offset and BIR in one, as the registers have them."""
        self.capability(at, 0x11).u16(at + 2, vectors - 1 | control)
        return self.u32(at + 4, table).u32(at + 8, pba)

    def aer(self, at: int = AER_AT) -> Bytes:
        """Add AER with the specification's defaults."""
        self.extended(at, 0x0001).u32(at + 0x08, 0x04400000).u32(at + 0x0C, 0x10462030)
        return self.u32(at + 0x14, 0xE000)

    def sriov(self, *, vfs: int, offset: int = 0x80, stride: int = 2, total: int = 8, at: int = SRIOV_AT) -> Bytes:
        """Add SR-IOV with VFs enabled if there are any, 4 KiB pages, and VF BAR 0 at 0xfe800000."""
        self.extended(at, 0x0010).u16(at + 8, 0x9 if vfs else 0)
        self.u16(at + 0x0C, total).u16(at + 0x0E, total).u16(at + 0x10, vfs)
        self.u16(at + 0x14, offset).u16(at + 0x16, stride).u16(at + 0x1A, 0x10CA)
        return self.u32(at + 0x1C, 0x553).u32(at + 0x20, 1).u32(at + 0x24, 0xFE800000)

    def bridge(self, *, secondary: int, subordinate: int, memory: tuple[int, int] = (0xFE80, 0xFEB0)) -> Bytes:
        """Make the header a bridge's, with one memory window (the upper 16 bits of base and limit)."""
        self.u32(0x08, 0x06040000).u8(0x0E, 1).u8(0x19, secondary).u8(0x1A, subordinate)
        self.u16(0x1C, 0x00F0).u16(0x20, memory[0]).u16(0x22, memory[1])
        return self.u16(0x24, 0xFFF0).u16(0x3E, 0x0002)

    def space(self) -> ConfigSpace:
        return ConfigSpace(bytes(self.data))

    def function(self, bdf: str = "01:00.0", *, bar_sizes: Mapping[int, int] | None = None) -> Function:
        return Function(space=self.space(), bdf=Bdf.parse(bdf), source="dump.txt", line=1, bar_sizes=bar_sizes or {})


def as_lspci(data: bytes, header: str = "01:00.0 Class 0200: Device 8086:10d3") -> str:
    """Return what `lspci -xxxx` prints of these bytes."""
    rows = (f"{at:02x}: {data[at : at + 16].hex(' ')}" for at in range(0, len(data), 16))
    return "\n".join((header, *rows, "", ""))

"""The MSI-X capability: where the vector table and the pending bits are.

Source: PCIe Base 6.3, section 7.7.2; PCI 3.0, section 6.8.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model import capabilities

if TYPE_CHECKING:
    from testbed.model.config_space import ConfigSpace

LENGTH = 12
_ENTRY = 16


@dataclass(frozen=True, kw_only=True)
class MsixArea:
    """A structure of MSI-X in a BAR."""

    at: int  #: where the register that names it stands
    bir: int  #: the BAR, by its index
    start: int
    size: int

    @property
    def end(self) -> int:
        """Return the offset of its last byte."""
        return self.start + self.size - 1

    def overlaps(self, other: MsixArea) -> bool:
        """Return whether both have a byte in common."""
        return self.bir == other.bir and self.start <= other.end and other.start <= self.end


@dataclass(frozen=True, kw_only=True)
class Msix:
    """The MSI-X capability of a function."""

    offset: int
    vectors: int
    enabled: bool
    masked: bool  #: the whole function
    table: MsixArea
    pba: MsixArea


def read_msix(space: ConfigSpace) -> Msix | None:
    """Return the function's MSI-X capability, or None if it has none that fits."""
    found = space.standard.find(capabilities.MSIX)
    if not found or not space.fits(found.offset, LENGTH):
        return None
    at = found.offset
    return msix_at(at, control=space.u16(at + 2), table=space.u32(at + 4), pba=space.u32(at + 8))


def msix_at(offset: int, *, control: int, table: int, pba: int) -> Msix:
    """Return what the three registers of an MSI-X capability say."""
    vectors = (control & 0x7FF) + 1
    return Msix(
        offset=offset,
        vectors=vectors,
        enabled=bool(control & 1 << 15),
        masked=bool(control & 1 << 14),
        table=_area(table, offset + 4, vectors * _ENTRY),
        # one bit a vector, in quad words
        pba=_area(pba, offset + 8, (vectors + 63) // 64 * 8),
    )


def _area(value: int, at: int, size: int) -> MsixArea:
    return MsixArea(at=at, bir=value & 7, start=value & ~7, size=size)


def msi_enabled(space: ConfigSpace) -> bool:
    """Return whether the function's MSI, not its MSI-X, is enabled."""
    found = space.standard.find(capabilities.MSI)
    return found is not None and space.fits(found.offset, 4) and bool(space.u16(found.offset + 2) & 1)

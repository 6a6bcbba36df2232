"""The SR-IOV capability of a PF, and the addresses of its VFs.

Source: PCIe Base 6.3, section 9.3.3 (registers) and 9.2.1.2 (routing ids).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model import capabilities
from testbed.model.bar import Bar, bars_at
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from testbed.model.config_space import ConfigSpace

LENGTH = 0x40
VF_BARS = 6
#: 4 KiB, 8 KiB, 64 KiB, 256 KiB, 1 MiB and 4 MiB: what every PF supports (section 9.3.3.12)
REQUIRED_PAGE_SIZES = 0x553

INITIAL_VFS_AT = 0x0C
TOTAL_VFS_AT = 0x0E
NUM_VFS_AT = 0x10
OFFSET_AT = 0x14
STRIDE_AT = 0x16
SUPPORTED_PAGES_AT = 0x1C
SYSTEM_PAGE_AT = 0x20
VF_BARS_AT = 0x24


@dataclass(frozen=True, kw_only=True)
class Sriov:
    """The SR-IOV capability of a PF."""

    at: int  #: its offset in the PF's configuration space
    migration_capable: bool
    control: int
    initial_vfs: int
    total_vfs: int
    num_vfs: int
    offset: int  #: First VF Offset
    stride: int  #: VF Stride
    vf_device: int
    supported_page_sizes: int  #: a bit for each power of two, from 4 KiB on
    system_page_size_bits: int
    vf_bars: tuple[Bar, ...]

    @property
    def vf_enable(self) -> bool:
        """Return whether the VFs are there."""
        return bool(self.control & 1 << 0)

    @property
    def migration_enabled(self) -> bool:
        """Return whether VF migration is enabled."""
        return bool(self.control & 1 << 1)

    @property
    def vf_memory(self) -> bool:
        """Return whether the VFs answer memory accesses (VF MSE)."""
        return bool(self.control & 1 << 3)

    @property
    def ari_hierarchy(self) -> bool:
        """Return whether the PF was told that ARI ids reach it."""
        return bool(self.control & 1 << 4)

    @property
    def page_size(self) -> int | None:
        """Return the system page size in bytes, or None if it is not one size."""
        bits = self.system_page_size_bits
        return bits << 12 if bits.bit_count() == 1 else None

    def vf_bdf(self, pf: Bdf, n: int) -> Bdf:
        """Return the address of VF `n`, counted from 0 as sysfs' virtfn links are; raise ValueError if there is none.

        It holds for the NumVFs and the ARI setting of this moment: both may change offset and stride.
        """
        routing_id = routing_id_of(pf) + self.offset + n * self.stride
        if not 0 <= n < 1 << 16 or routing_id > 0xFFFF:
            raise ValueError(f"VF {n} of {pf} has no address: offset {self.offset}, stride {self.stride}")
        return at_routing_id(pf.domain, routing_id)


def read_sriov(space: ConfigSpace) -> Sriov | None:
    """Return the function's SR-IOV capability, or None if it has none that fits."""
    found = space.extended.find(capabilities.SRIOV)
    if not found or not space.fits(found.offset, LENGTH):
        return None
    at = found.offset
    return Sriov(
        at=at,
        migration_capable=bool(space.u32(at + 4) & 1),
        control=space.u16(at + 8),
        initial_vfs=space.u16(at + INITIAL_VFS_AT),
        total_vfs=space.u16(at + TOTAL_VFS_AT),
        num_vfs=space.u16(at + NUM_VFS_AT),
        offset=space.u16(at + OFFSET_AT),
        stride=space.u16(at + STRIDE_AT),
        vf_device=space.u16(at + 0x1A),
        supported_page_sizes=space.u32(at + SUPPORTED_PAGES_AT),
        system_page_size_bits=space.u32(at + SYSTEM_PAGE_AT),
        vf_bars=bars_at(space, at + VF_BARS_AT, VF_BARS),
    )


def routing_id_of(address: Bdf) -> int:
    """Return the 16 bits by which a link knows a function."""
    return address.bus << 8 | address.device << 3 | address.function


def at_routing_id(domain: int, routing_id: int) -> Bdf:
    """Return the address with this routing id."""
    return Bdf(domain, routing_id >> 8, routing_id >> 3 & 0x1F, routing_id & 7)

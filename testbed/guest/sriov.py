"""SR-IOV as the guest sees it: a PF's capability, and each VF's address, BARs, driver and IOMMU group."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.model.config_space import SIZES, ConfigSpace
from testbed.model.pci import Bdf
from testbed.model.sriov import VF_BARS, read_sriov

if TYPE_CHECKING:
    from testbed.guest.files import Shown
    from testbed.guest.guest import Guest
    from testbed.model.sriov import Sriov

_VIRTFN = re.compile(r"virtfn(\d{1,5})")
_BARS = 6
#: in `resource`: six BARs, the ROM, then the VF BARs, each for all VFs together
_FIRST_VF_BAR = 7
_MEMORY = 0x200


@dataclass(frozen=True, kw_only=True)
class VfBar:
    """Where the BAR of one VF stands."""

    index: int
    start: int
    size: int

    def __str__(self) -> str:
        return f"BAR {self.index} {self.start:#x}+{self.size:#x}"


@dataclass(frozen=True, kw_only=True)
class VfInGuest:
    """A VF as the guest's sysfs has it."""

    number: int
    bdf: Bdf
    vendor: int  #: as sysfs says; a VF's own registers read as all ones
    device: int
    raw_ids: tuple[int, int] | None  #: what its configuration space says; None if nothing answers there
    bars: tuple[VfBar, ...]
    driver: str  #: empty if none is bound
    group: str  #: of the IOMMU; empty without one
    reset_methods: str


@dataclass(frozen=True, kw_only=True)
class PfInGuest:
    """A PF as the guest's sysfs and its own registers have it."""

    bdf: Bdf
    sriov: Sriov  #: its registers
    total: int  #: sriov_totalvfs: what the driver allows, at most TotalVFs
    enabled: int  #: sriov_numvfs
    offset: int
    stride: int
    vf_device: int
    autoprobe: bool
    ari: bool  #: ari_enabled: the port above forwards to all function numbers
    driver: str
    group: str
    vendor: int
    vf_bars: tuple[VfBar, ...]  #: of all VFs together
    vfs: tuple[VfInGuest, ...]
    evidence: str

    @property
    def groups(self) -> dict[Bdf, str]:
        """Return the IOMMU group of the PF and each VF."""
        return {self.bdf: self.group, **{vf.bdf: vf.group for vf in self.vfs}}

    def expected_bdf(self, number: int) -> Bdf:
        """Return where VF `number` must be by the registers."""
        return self.sriov.vf_bdf(self.bdf, number)

    def expected_bars(self, number: int) -> tuple[VfBar, ...]:
        """Return what BARs VF `number` must have: the PF's VF BARs, cut into equal parts for all TotalVFs."""
        parts = ((each, each.size // self.sriov.total_vfs) for each in self.vf_bars)
        return tuple(VfBar(index=each.index, start=each.start + number * size, size=size) for each, size in parts)


async def read_pf(guest: Guest, bdf: Bdf) -> PfInGuest | None:
    """Read a PF and its VFs; None if the function has no SR-IOV that the guest can use."""
    folder = bdf.sysfs
    shown = await show(
        guest,
        *(f"{folder}/{name}" for name in ("config", "sriov_*", "ari_enabled", "driver", "iommu_group", "resource")),
        f"{folder}/vendor",
        f"{folder}/virtfn*",
    )
    config = shown.files.get(f"{folder}/config", b"")
    sriov = read_sriov(ConfigSpace(config)) if len(config) in SIZES else None
    if sriov is None or not shown.text(f"{folder}/sriov_totalvfs"):
        return None
    total = _number(shown, f"{folder}/sriov_totalvfs")
    ranges = _ranges(shown.text(f"{folder}/resource"))
    links = {path: _VIRTFN.fullmatch(PurePosixPath(path).name) for path in shown.links}
    virtual = {int(match[1]): PurePosixPath(shown.links[path]).name for path, match in links.items() if match}
    return PfInGuest(
        bdf=bdf,
        sriov=sriov,
        total=total,
        enabled=_number(shown, f"{folder}/sriov_numvfs"),
        offset=_number(shown, f"{folder}/sriov_offset"),
        stride=_number(shown, f"{folder}/sriov_stride"),
        vf_device=_number(shown, f"{folder}/sriov_vf_device", base=16),
        autoprobe=shown.text(f"{folder}/sriov_drivers_autoprobe") == "1",
        ari=shown.text(f"{folder}/ari_enabled") == "1",
        driver=_link(shown, f"{folder}/driver"),
        group=_link(shown, f"{folder}/iommu_group"),
        vendor=_number(shown, f"{folder}/vendor", base=16),
        vf_bars=tuple(
            VfBar(index=index - _FIRST_VF_BAR, start=start, size=size)
            for index, start, size in ranges
            if _FIRST_VF_BAR <= index < _FIRST_VF_BAR + VF_BARS
        ),
        vfs=await _read_vfs(guest, virtual),
        evidence=shown.evidence,
    )


async def _read_vfs(guest: Guest, virtual: dict[int, str]) -> tuple[VfInGuest, ...]:
    if not virtual:
        return ()
    names = ("vendor", "device", "config", "resource", "driver", "iommu_group", "reset_method")
    folders = {number: Bdf.parse(name).sysfs for number, name in virtual.items()}
    shown = await show(guest, *(f"{folder}/{name}" for folder in folders.values() for name in names))
    return tuple(
        VfInGuest(
            number=number,
            bdf=Bdf.parse(virtual[number]),
            vendor=_number(shown, f"{folder}/vendor", base=16),
            device=_number(shown, f"{folder}/device", base=16),
            raw_ids=_raw_ids(shown.files.get(f"{folder}/config", b"")),
            bars=tuple(
                VfBar(index=index, start=start, size=size)
                for index, start, size in _ranges(shown.text(f"{folder}/resource"))
                if index < _BARS
            ),
            driver=_link(shown, f"{folder}/driver"),
            group=_link(shown, f"{folder}/iommu_group"),
            reset_methods=shown.text(f"{folder}/reset_method"),
        )
        for number, folder in sorted(folders.items())
    )


def _ranges(resource: str) -> list[tuple[int, int, int]]:
    """Return index, start and size of each memory range in a `resource` file."""
    ranges = []
    for index, line in enumerate(resource.splitlines()):
        start, end, flags = (int(word, 16) for word in line.split())
        if end > start and flags & _MEMORY:
            ranges.append((index, start, end - start + 1))
    return ranges


def _raw_ids(config: bytes) -> tuple[int, int] | None:
    if len(config) not in SIZES:
        return None
    space = ConfigSpace(config)
    return None if space.is_absent else (space.vendor, space.device)


def _number(shown: Shown, path: str, *, base: int = 10) -> int:
    return int(shown.text(path) or "0", base)


def _link(shown: Shown, path: str) -> str:
    return PurePosixPath(shown.links.get(path, "")).name

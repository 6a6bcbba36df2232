"""Passthrough: take PCI functions of a host away from its drivers and give them to vfio-pci, and back.

Source: Documentation/driver-api/vfio.rst; sysfs files of drivers/pci/pci-driver.c and iov.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.pci import Bdf
from testbed.model.spec import Device

if TYPE_CHECKING:
    from testbed.guest.guest import Guest

VFIO = "vfio-pci"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A function's driver and IOMMU group."""

    bdf: Bdf
    driver: str  #: empty: none
    group: str  #: number of the group; empty: there is no IOMMU
    evidence: str


def check_group(bdf: Bdf, group: object) -> None:
    """Raise UnsupportedError for a function without an IOMMU group: vfio-pci does not take it."""
    if not group:
        raise UnsupportedError(f"{bdf} has no IOMMU group", hint="-p iommu=intel and --cmdline intel_iommu=on")


async def bind(guest: Guest, bdf: Bdf, driver: str) -> Bound:
    """Have a function driven by one driver and no other; raise BrokenError if the kernel binds it otherwise."""
    await guest.act(
        f"cd {bdf.sysfs} && echo {driver} > driver_override; "
        f"[ ! -e driver ] || echo {bdf} > driver/unbind; echo {bdf} > /sys/bus/pci/drivers_probe"
    )
    bound = await bound_to(guest, bdf)
    if bound.driver != driver:
        raise BrokenError(f"binding {bdf} to {driver}: it is driven by {bound.driver or 'nothing'} ({bound.evidence})")
    return bound


async def release(guest: Guest, bdf: Bdf) -> Bound:
    """Give a function back to the driver it would have had."""
    await guest.act(
        f"cd {bdf.sysfs} && echo > driver_override; [ ! -e driver ] || echo {bdf} > driver/unbind; "
        f"echo {bdf} > /sys/bus/pci/drivers_probe"
    )
    return await bound_to(guest, bdf)


async def bound_to(guest: Guest, bdf: Bdf) -> Bound:
    """Return who drives a function, and its IOMMU group."""
    shown = await show(guest, f"{bdf.sysfs}/driver", f"{bdf.sysfs}/iommu_group")
    names = {path.rpartition("/")[2]: target.rpartition("/")[2] for path, target in shown.links.items()}
    return Bound(bdf=bdf, driver=names.get("driver", ""), group=names.get("iommu_group", ""), evidence=shown.evidence)


async def group_of(guest: Guest, bdf: Bdf) -> tuple[Bdf, ...]:
    """Return the functions of an IOMMU group, this one among them; none if it is in no group."""
    shown = await show(guest, f"{bdf.sysfs}/iommu_group/devices/*")
    return tuple(sorted(Bdf.parse(path.rpartition("/")[2]) for path in shown.links))


def vfio_device(bdf: Bdf, *, device_id: str, bus: str) -> Device:
    """Return the device of a level-2 machine that is a function of level 1."""
    return Device(driver=VFIO, id=device_id, bus=bus, properties={"host": str(bdf)})

"""The guest's drivers, loaded by what the devices say they are."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.guest.files import show

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf

#: twice: only the PCI driver of a virtio device brings the virtio device that wants the second one; a SCSI disk is
#: found some time after its controller, so its driver is loaded unasked
_LOAD = (
    "for n in 1 2; do cat /sys/bus/pci/devices/*/modalias /sys/bus/virtio/devices/*/modalias 2>/dev/null | "
    "sort -u | xargs -r modprobe -qa; done; modprobe -qa scsi:t-0x00; true"
)


async def load_drivers(guest: Guest) -> None:
    """Load the driver of every PCI and virtio device, as udev does, except those that the image lacks."""
    await guest.act(_LOAD)


async def bound_driver(guest: Guest, address: Bdf) -> str:
    """Return the name of the driver that is bound to a PCI function, or an empty string."""
    link = f"{address.sysfs}/driver"
    return PurePosixPath((await show(guest, link)).links.get(link, "")).name

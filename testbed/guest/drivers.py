"""The guest's drivers, loaded by what the devices say they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testbed.guest.guest import Guest

#: twice: only the PCI driver of a virtio device brings the virtio device that wants the second one
_LOAD = (
    "for n in 1 2; do cat /sys/bus/pci/devices/*/modalias /sys/bus/virtio/devices/*/modalias 2>/dev/null | "
    "sort -u | xargs -r modprobe -qa; done; true"
)


async def load_drivers(guest: Guest) -> None:
    """Load the driver of every PCI and virtio device, as udev does; what the image lacks is left out."""
    await guest.act(_LOAD)

"""What a device needs behind it that the test bed cannot make: it has disks, networks and character devices to give.

Source: the properties that `device-list-properties` lists, and the realize functions of QEMU 7.2 and 10.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

#: by the begin of a driver's name
_DRIVERS = {
    "vfio-": "a host device",
    "vhost-user-": "a process that speaks vhost-user",
    "vhost-": "a host vhost driver",
    "ivshmem-doorbell": "an ivshmem server",
    "x-pci-proxy-dev": "a QEMU process that serves the device",
    "x-vfio-user": "a vfio-user server",
    "xen-": "Xen",
    "usb-host": "a host USB device",
    "usb-redir": "a process that speaks usbredir",
    "usb-mtp": "a host folder",
    "usb-bot": "a SCSI disk on it: take usb-storage",
    "usb-uas": "a SCSI disk on it: take usb-storage",
    "scsi-generic": "a host SCSI device",
    "scsi-block": "a host SCSI device",
    "u2f-": "a host security key",
}
#: by the name of a property; others that name an object may be left out
_PROPERTIES = {
    "memdev": "a memory backend (memdev)",
    "cryptodev": "a cryptography backend (cryptodev)",
    "fsdev": "a host folder (fsdev)",
    "evdev": "a host input device (evdev)",
    "bmc": "a management controller (bmc)",
    "chardev1": "several character devices",
}


def lacking_backend(driver: str, properties: Collection[str]) -> str:
    """Return what a driver with these properties needs and cannot be given; empty if nothing is missing."""
    for begin, words in _DRIVERS.items():
        if driver.startswith(begin):
            return words
    return next((words for name, words in _PROPERTIES.items() if name in properties), "")

"""What a device needs behind it that the test bed cannot make: it has disks, networks and character devices to give.

Source: the properties that `device-list-properties` lists, and the realize functions of QEMU 7.2 and 10.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

#: by the begin of a driver's name
_DRIVERS = {
    "vfio-": "a device of the host's",
    "vhost-user-": "a process that speaks vhost-user",
    "vhost-": "a vhost driver of the host's",
    "ivshmem-doorbell": "an ivshmem server",
    "x-pci-proxy-dev": "a QEMU process that has the device",
    "x-vfio-user": "a vfio-user server",
    "xen-": "Xen",
    "usb-host": "a USB device of the host's",
    "usb-redir": "a process that speaks usbredir",
    "usb-mtp": "a folder of the host's",
    "usb-bot": "a SCSI disk on it: take usb-storage",
    "usb-uas": "a SCSI disk on it: take usb-storage",
    "scsi-generic": "a SCSI device of the host's",
    "scsi-block": "a SCSI device of the host's",
    "u2f-": "a security key of the host's",
}
#: by the name of a property; others that name an object may be left out
_PROPERTIES = {
    "memdev": "a memory backend (memdev)",
    "cryptodev": "a cryptography backend (cryptodev)",
    "fsdev": "a folder of the host's (fsdev)",
    "evdev": "an input device of the host's (evdev)",
    "bmc": "a management controller (bmc)",
    "chardev1": "several character devices",
}


def lacking_backend(driver: str, properties: Collection[str]) -> str:
    """Return what a driver with these properties needs and cannot be given; empty if it can be had."""
    for begin, words in _DRIVERS.items():
        if driver.startswith(begin):
            return words
    return next((words for name, words in _PROPERTIES.items() if name in properties), "")

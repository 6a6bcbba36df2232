"""Where in the guest's sysfs a QEMU device appears, on any bus: a PCI function, a SCSI LUN, a USB device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from testbed.guest.pci import address_of
from testbed.model.device_kind import BusKind, bus_kind, controller_of
from testbed.model.errors import BrokenError

if TYPE_CHECKING:
    from testbed.machine.launch import Machine
    from testbed.model.spec import Device


class Place(Protocol):
    """A place in sysfs; its text is what people call it."""

    @property
    def sysfs(self) -> str:
        """Return its path, or a shell pattern that nothing else matches."""


@dataclass(frozen=True, kw_only=True)
class ChildPlace:
    """The place of a device on a controller's bus."""

    name: str
    sysfs: str

    def __str__(self) -> str:
        return self.name


async def place_in_guest(machine: Machine, device: Device) -> Place:
    """Return where a device that QEMU has appears, or should appear; raise BrokenError if that cannot be told."""
    kind = bus_kind(device.driver)
    if kind is BusKind.PCI:
        return await address_of(machine, device.id)
    controller = await address_of(machine, controller_of(device))
    if kind is BusKind.USB:
        port = device.properties.get("port")
        if port is None:
            raise BrokenError(f"{device.id}: its port is unknown", hint="name one: port=1")
        return ChildPlace(name=f"port {port} of {controller}", sysfs=f"{controller.sysfs}/usb*/*-{port}")
    target, lun = [await _number(machine, device.id, name) for name in ("scsi-id", "lun")]
    # Linux gives the host a number of its own; virtio-scsi has one channel
    sysfs = f"{controller.sysfs}/virtio*/host*/target*/*:0:{target}:{lun}"
    return ChildPlace(name=f"LUN {lun} of target {target} of {controller}", sysfs=sysfs)


async def _number(machine: Machine, device_id: str, name: str) -> int:
    path = f"/machine/peripheral/{device_id}"
    return int(await machine.qmp.execute("qom-get", {"path": path, "property": name}))

"""DeviceKind: what a short name such as `virtio-scsi` stands for, and one device of a kind with all that is behind it.

Templates (cold plug) and scenarios (hot-plug) build devices from the same table.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from testbed.model.spec import Device, Disk, Network

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from testbed.model.spec import MachineSpec, Property, Slot

Proof = Literal["disk", "nic", "controller", "usb"]


class BusKind(enum.StrEnum):
    """What kind of bus a device is on."""

    PCI = "PCI"
    SCSI = "SCSI"
    USB = "USB"


@dataclass(frozen=True, kw_only=True)
class DeviceKind:
    """A kind of PCI device."""

    name: str  #: the short name
    driver: str  #: QEMU's name
    proof: Proof  #: what shows in the guest that it works
    properties: Mapping[str, Property] = field(default_factory=dict)
    network: bool = False  #: whether it has a network backend
    disk: bool = False  #: whether it takes a disk itself
    chardev: bool = False  #: whether it has a character device behind it
    serial: bool = True  #: whether it gives that disk a serial number
    child: str = ""  #: driver of the disk that stands on its bus
    modules: tuple[str, ...] = ()  #: of the guest

    @property
    def noun(self) -> str:
        """Return what a device of this kind is called in a sentence."""
        return {"disk": "disk", "nic": "network card"}.get(self.proof, self.driver)

    @property
    def needs_disk(self) -> bool:
        """Return whether a disk image backs it."""
        return self.disk or bool(self.child)

    def own_properties(self, device_id: str, *, disk_id: str, network_id: str) -> dict[str, Property]:
        """Return the properties of the PCI device itself; a disk's serial number is the device's id."""
        disk: dict[str, Property] = {"drive": disk_id} if self.disk else {}
        serial: dict[str, Property] = {"serial": device_id} if self.disk and self.serial else {}
        network: dict[str, Property] = {"netdev": network_id} if self.network else {}
        chardev: dict[str, Property] = {"chardev": chardev_id(device_id)} if self.chardev else {}
        return {**self.properties, **disk, **serial, **network, **chardev}


@dataclass(frozen=True, kw_only=True)
class DeviceParts:
    """A device, and what must be made before it (disk, network, chardev) and plugged after it (children)."""

    kind: DeviceKind
    device: Device
    disk: Disk | None = None
    network: Network | None = None
    chardev: str = ""  #: the id of a character device; empty if there is none
    children: tuple[Device, ...] = ()


#: the disk on a SCSI bus
SCSI_DISK = "scsi-hd"

#: the devices a short name is known for
KINDS = (
    DeviceKind(
        name="virtio-blk", driver="virtio-blk-pci", proof="disk", disk=True, modules=("virtio_pci", "virtio_blk")
    ),
    DeviceKind(
        name="virtio-scsi",
        driver="virtio-scsi-pci",
        proof="disk",
        child=SCSI_DISK,
        modules=("virtio_pci", "virtio_scsi", "sd_mod"),
    ),
    DeviceKind(name="nvme", driver="nvme", proof="disk", disk=True, modules=("nvme",)),
    # as QEMU's machine types have it: modern on a PCIe port, transitional on a conventional bus
    DeviceKind(
        name="virtio-net", driver="virtio-net-pci", proof="nic", network=True, modules=("virtio_pci", "virtio_net")
    ),
    DeviceKind(
        name="virtio-net-modern",
        driver="virtio-net-pci",
        proof="nic",
        network=True,
        properties={"disable-legacy": True, "disable-modern": False},
        modules=("virtio_pci", "virtio_net"),
    ),
    DeviceKind(
        name="virtio-net-transitional",
        driver="virtio-net-pci",
        proof="nic",
        network=True,
        properties={"disable-legacy": False, "disable-modern": False},
        modules=("virtio_pci", "virtio_net"),
    ),
    DeviceKind(
        name="virtio-net-legacy",
        driver="virtio-net-pci",
        proof="nic",
        network=True,
        properties={"disable-legacy": False, "disable-modern": True},
        modules=("virtio_pci", "virtio_net"),
    ),
    DeviceKind(name="e1000", driver="e1000", proof="nic", network=True, modules=("e1000",)),
    DeviceKind(name="e1000e", driver="e1000e", proof="nic", network=True, modules=("e1000e",)),
    DeviceKind(name="igb", driver="igb", proof="nic", network=True, modules=("igb",)),
    DeviceKind(name="xhci", driver="qemu-xhci", proof="controller", modules=("xhci_pci",)),
)


def device_kind(name: str) -> DeviceKind:
    """Return the kind with this short name, or of this QEMU driver; any other name is a driver with nothing behind."""
    return next((kind for kind in KINDS if name == kind.name), driver_kind(name))


def driver_kind(driver: str, properties: Collection[str] = ()) -> DeviceKind:
    """Return the kind of a QEMU driver; of one without a short name, its properties tell what stands behind it."""
    for kind in KINDS:
        if driver == kind.driver:
            return kind
    return DeviceKind(
        name=driver,
        driver=driver,
        proof="usb" if bus_kind(driver) is BusKind.USB else "disk" if driver == SCSI_DISK else "controller",
        disk="drive" in properties,
        serial="serial" in properties,
        network="netdev" in properties,
        chardev="chardev" in properties,
    )


def bus_kind(driver: str) -> BusKind:
    """Return what kind of bus a QEMU driver's devices are on; USB controllers are themselves on PCI."""
    if driver.startswith("usb-") and driver != "usb-ehci":
        return BusKind.USB
    return BusKind.SCSI if driver.startswith("scsi-") else BusKind.PCI


def kinds_of(name: str) -> tuple[DeviceKind, ...]:
    """Return the kinds that are proven like this (`disk`, `nic`, `controller`), or else the one of this name."""
    return tuple(kind for kind in KINDS if name == kind.proof) or (device_kind(name),)


def hot_device(
    kind: DeviceKind | str,
    slot: Slot | None,
    *,
    device_id: str = "hot1",
    properties: Mapping[str, Property] | None = None,
) -> DeviceParts:
    """Return a device of a kind for a free slot, with what must be made for it; one id names all its parts.

    Without a slot QEMU finds its bus, if it wants one. Its own properties stand above the kind's; a `drive` or `netdev`
    among them is there already, and is not made. A slot with a function number gets a function of a multi-function
    device.
    """
    kind = device_kind(kind) if isinstance(kind, str) else kind
    own = properties or {}
    disk = Disk(id=f"{device_id}-disk") if kind.needs_disk and "drive" not in own else None
    network = Network(id=f"{device_id}-net") if kind.network and "netdev" not in own else None
    of_kind = kind.own_properties(device_id, disk_id=f"{device_id}-disk", network_id=f"{device_id}-net")
    bus, addr = (slot.bus, slot.addr) if slot else (None, None)
    if "." in (addr or ""):
        of_kind["multifunction"] = True
    return DeviceParts(
        kind=kind,
        device=Device(driver=kind.driver, id=device_id, bus=bus, addr=addr, properties={**of_kind, **own}),
        disk=disk,
        network=network,
        chardev=chardev_id(device_id) if kind.chardev and "chardev" not in own else "",
        children=(_child(kind, device_id, disk.id),) if kind.child and disk else (),
    )


def cold_parts(spec: MachineSpec, device: Device) -> DeviceParts:
    """Return a device of a machine's description with the disk behind it and the devices on its bus."""
    children = tuple(each for each in spec.devices if each.bus == child_bus(device.id))
    drives = [each.properties.get("drive") for each in (device, *children)]
    disk = next((disk for disk in spec.disks if disk.id in drives), None)
    return DeviceParts(kind=device_kind(device.driver), device=device, disk=disk, children=children)


def child_bus(device_id: str) -> str:
    """Return the name of the first bus of a controller, such as `dev1.0`."""
    return f"{device_id}.0"


def controller_of(device: Device) -> str:
    """Return the id of the controller on whose bus a device is."""
    return (device.bus or "").removesuffix(child_bus(""))


def chardev_id(device_id: str) -> str:
    """Return the id of the character device behind a device."""
    return f"{device_id}-chardev"


def _child(kind: DeviceKind, device_id: str, disk_id: str) -> Device:
    properties: dict[str, Property] = {"drive": disk_id, "serial": device_id}
    return Device(driver=kind.child, id=f"{device_id}-lun", bus=child_bus(device_id), properties=properties)

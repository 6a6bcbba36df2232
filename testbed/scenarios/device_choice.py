"""Which devices device-plug and device-unplug add, and where: from options to steps, each a device for a place."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count as counting
from typing import TYPE_CHECKING, Any

from testbed.model.catalog import unknown
from testbed.model.device_kind import (
    KINDS,
    SCSI_DISK,
    BusKind,
    DeviceKind,
    DeviceParts,
    bus_kind,
    child_bus,
    driver_kind,
    hot_device,
)
from testbed.model.device_needs import lacking_backend
from testbed.model.errors import InputError, UnsupportedError
from testbed.model.parameter import Parameter
from testbed.model.spec import CONVENTIONAL_BRIDGES, Slot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from testbed.host.qemu import Qemu
    from testbed.model.spec import MachineSpec, Property

_UPSTREAM, _DOWNSTREAM = "x3130-upstream", "xio3130-downstream"
#: what may be plugged with devices behind it
_BRIDGES = (*CONVENTIONAL_BRIDGES, _UPSTREAM)
#: controllers by what stands on their bus, and how they are given to a machine
_CONTROLLERS = {
    BusKind.SCSI: (("virtio-scsi-pci",), "virtio-scsi"),
    BusKind.USB: (("qemu-xhci", "nec-usb-xhci"), "xhci"),
}
#: numbers that no template's bridges have
_CHASSIS = 200
#: ports of a USB controller, as QEMU has them unless told otherwise
_USB_PORTS = 4

OPTIONS = {
    "slot": Parameter(
        type="str",
        default="",
        doc="a free slot, by its bus (rp3, or br1:0x2), or a controller (dev2); empty: the first",
    ),
    "count": Parameter(type="int", default=1, min=1, max=32, doc="how many, each in its own slot"),
    "functions": Parameter(
        type="int", default=1, min=1, max=8, doc="functions of one multi-function device; function 0 is added last"
    ),
    "behind": Parameter(type="list", default=[], doc="devices behind a bridge or switch that is added with them"),
    "properties": Parameter(type="dict", default={}, doc="of the device, as QEMU calls them: membar=16G"),
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One device that is added."""

    parts: DeviceParts
    slot: Slot | None  #: None on a controller's bus
    awaited: bool = True  #: functions above 0 are looked at only when function 0 comes

    @property
    def words(self) -> str:
        """Describe the request to QEMU."""
        device = self.parts.device
        return f"device_add {device.driver} {device.id} on {device.bus}"


def find_kind(qemu: Qemu, name: str, given: Mapping[str, Property]) -> DeviceKind:
    """Return the kind of a short name, or of a QEMU driver; raise InputError for one that cannot be added or given."""
    known = {kind.name: kind for kind in KINDS}
    driver = known[name].driver if name in known else name
    driver = driver if driver in qemu.drivers or f"{driver}-pci" not in qemu.drivers else f"{driver}-pci"
    qemu.check_driver(driver)
    properties = qemu.properties(driver)
    for key in given:
        if key not in properties:
            raise unknown(f"device {driver}: property", key, properties)
    if needed := lacking_backend(driver, properties):
        hint = "devices that need a disk, a network, a character device or nothing can be added"
        raise InputError(f"device {driver}: needs {needed}, which the test bed cannot provide", hint=hint)
    bus = bus_kind(driver)
    if (bus is BusKind.PCI and driver not in qemu.pci_drivers) or (bus is BusKind.SCSI and driver != SCSI_DISK):
        raise InputError(
            f"device {driver}: sits on a bus for which the test bed has no proof of life",
            hint=f"PCI devices, {SCSI_DISK} and usb-* are",
        )
    return known.get(name) or driver_kind(driver, properties)


def check_choice(spec: MachineSpec, qemu: Qemu, options: Mapping[str, Any]) -> None:
    """Raise InputError or UnsupportedError for devices that cannot be added to this machine."""
    if options["driver"]:
        choose(spec, qemu, options)


def choose(spec: MachineSpec, qemu: Qemu, options: Mapping[str, Any]) -> list[Step]:
    """Return what is added, in order; raise as `check_choice`."""
    kind = find_kind(qemu, options["driver"], options["properties"])
    if options["behind"] and kind.driver not in _BRIDGES:
        raise InputError(f"behind: {kind.driver} is not a bridge", hint=f"bridges are: {', '.join(_BRIDGES)}")
    if bus_kind(kind.driver) is not BusKind.PCI:
        return list(_on_controller(spec, kind, options))
    ids = (f"hot{number}" for number in counting(1))
    steps: list[Step] = []
    for slot in _free_slots(spec, options["slot"], options["count"]):
        for place in _functions(slot, options["functions"]):
            own = {**_bridge_numbers(kind.driver, len(steps)), **options["properties"]}
            awaited = "." not in (place.addr or "") or (place.addr or "").endswith(".0")
            parts = hot_device(kind, place, device_id=next(ids), properties=own)
            steps.append(Step(parts=parts, slot=place, awaited=awaited))
            steps += _behind(qemu, steps[-1], options["behind"], ids)
    if not steps[-1].awaited:
        hint = "its slots are functions: take as many as a slot has, -s count=N for -p functions=N"
        raise InputError(
            f"count: {options['count']} leave out function 0, whose arrival makes the guest scan the slot", hint=hint
        )
    return steps


def _free_slots(spec: MachineSpec, name: str, count: int) -> Sequence[Slot]:
    """Return the first free slots, from the one of this name on; raise InputError if there is none such."""
    names = [f"{slot.bus}:{slot.addr}" if slot.addr else slot.bus for slot in spec.slots]
    found = [n for n, slot in enumerate(spec.slots) if name in ("", slot.bus, names[n])]
    if name and not found:
        raise unknown("free slot", name, names)
    slots = spec.slots[found[0] :] if found else []
    if len(slots) < count:
        hint = "give the machine more: -p ports=8 on q35, -p free_slots=4 elsewhere"
        raise UnsupportedError(
            f"the machine has {len(slots)} free slots{f' from {name} on' if name else ''}", hint=hint
        )
    return slots[:count]


def _functions(slot: Slot, functions: int) -> list[Slot]:
    """Return the places of a slot's functions, function 0 last, since the guest looks only when that comes."""
    if functions == 1:
        return [slot]
    device = (slot.addr or "0x0").partition(".")[0]
    return [Slot(bus=slot.bus, addr=f"{device}.{number}") for number in reversed(range(functions))]


def _bridge_numbers(driver: str, number: int) -> dict[str, Property]:
    return {"chassis_nr": _CHASSIS + number} if driver == "pci-bridge" else {}


def _behind(qemu: Qemu, bridge: Step, names: Sequence[str], ids: Iterator[str]) -> Iterator[Step]:
    """Yield what is added behind a bridge; each device of a switch in a downstream port of its own."""
    bus = bridge.parts.device.id
    for number, name in enumerate(names):
        slot = Slot(bus=bus, addr=f"0x{number + 1:x}")
        if bridge.parts.device.driver == _UPSTREAM:
            port = _port(bus, number, next(ids))
            yield port
            slot = Slot(bus=port.parts.device.id)
        parts = hot_device(find_kind(qemu, name, {}), slot, device_id=next(ids))
        yield Step(parts=parts, slot=slot)


def _port(bus: str, number: int, device_id: str) -> Step:
    slot = Slot(bus=bus, addr=f"0x{number:x}")
    own: dict[str, Property] = {"chassis": _CHASSIS, "slot": _CHASSIS + number, "port": number}
    return Step(parts=hot_device(_DOWNSTREAM, slot, device_id=device_id, properties=own), slot=slot)


def _on_controller(spec: MachineSpec, kind: DeviceKind, options: Mapping[str, Any]) -> Iterator[Step]:
    """Yield LUNs of a SCSI controller, or devices in the ports of a USB controller."""
    bus = bus_kind(kind.driver)
    if options["functions"] > 1:
        raise InputError(f"functions: {kind.driver} stands on {bus}, and has no functions")
    drivers, short = _CONTROLLERS[bus]
    ids = [device.id for device in spec.devices_of(*drivers)]
    if not ids:
        raise UnsupportedError(
            f"the machine has no {bus} controller", hint=f"give it one: -p devices=virtio-blk,{short}"
        )
    if options["slot"] and options["slot"] not in ids:
        raise unknown(f"{bus} controller", options["slot"], ids)
    if bus is BusKind.USB and options["count"] > _USB_PORTS:
        raise InputError(f"count: a USB controller has {_USB_PORTS} ports, {options['count']} were asked for")
    slot = Slot(bus=child_bus(options["slot"] or ids[0]))
    # the machine's own LUNs are the first of the same target
    first = len([device for device in spec.devices if device.bus == slot.bus])
    for number in range(1, options["count"] + 1):
        lun: dict[str, Property] = {"scsi-id": 0, "lun": first + number - 1}
        place: dict[str, Property] = {"port": f"{number}"} if bus is BusKind.USB else lun
        own = {**place, **options["properties"]}
        yield Step(parts=hot_device(kind, slot, device_id=f"hot{number}", properties=own), slot=None)

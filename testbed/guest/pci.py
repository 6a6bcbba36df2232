"""Where a QEMU device is in the guest's PCI tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed.model.errors import BrokenError
from testbed.model.pci import Bdf
from testbed.model.spec import EXPANDERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.machine.launch import Machine
    from testbed.model.spec import Device, Slot


async def address_of(machine: Machine, device_id: str) -> Bdf:
    """Return the address of a device as QEMU sees it (`query-pci`); raise BrokenError if it is missing.

    Bus numbers are those the firmware and the guest wrote into the bridges, so this is the guest's own address too.
    """
    return _bdf(await function_of(machine, device_id))


async def addresses(machine: Machine) -> dict[str, Bdf]:
    """Return the address of every PCI device by its id, as QEMU sees them."""
    buses = await machine.qmp.execute("query-pci")
    functions = (function for bus in buses for function in _functions(bus["devices"]))
    return {function["qdev_id"]: _bdf(function) for function in functions if function["qdev_id"]}


@dataclass(frozen=True, kw_only=True)
class SlotPlace:
    """A slot in the guest's PCI tree."""

    port: Bdf | None  #: the bridge above it; None on a root bus
    bus: int
    device: int

    @property
    def address(self) -> str:
        """Return the slot's address as `/sys/bus/pci/slots/*/address` gives it: `0000:01:00`."""
        return f"0000:{self.bus:02x}:{self.device:02x}"


async def place_of(machine: Machine, slot: Slot | Device) -> SlotPlace:
    """Return where a slot is; raise BrokenError if its bus is missing."""
    device = int((slot.addr or "0").partition(".")[0], 16)
    if slot.bus is None or slot.bus == machine.spec.root_bus:
        return SlotPlace(port=None, bus=0, device=device)
    if slot.bus in (expander.id for expander in machine.spec.devices_of(*EXPANDERS)):
        return SlotPlace(port=None, bus=int(machine.spec.device(slot.bus).properties["bus_nr"]), device=device)
    bridge = await function_of(machine, slot.bus)
    secondary = bridge["pci_bridge"]["bus"]["secondary"]
    return SlotPlace(port=_bdf(bridge), bus=secondary, device=device)


async def function_of(machine: Machine, device_id: str) -> dict[str, Any]:
    """Return what `query-pci` says of a device; raise BrokenError if it is missing."""
    for bus in await machine.qmp.execute("query-pci"):
        for function in _functions(bus["devices"]):
            if function["qdev_id"] == device_id:
                return function
    raise BrokenError(f"query-pci: device {device_id} is not there")


def _bdf(function: dict[str, Any]) -> Bdf:
    return Bdf(0, function["bus"], function["slot"], function["function"])


def _functions(devices: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for device in devices:
        yield device
        yield from _functions(device.get("pci_bridge", {}).get("devices", []))

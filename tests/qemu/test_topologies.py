"""Topologies: a real QEMU takes each, and each place that a template calls free takes a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from testbed.actions.hotplug import add_parts
from testbed.machine.device_tree import live_devices
from testbed.machine.template import load_template
from testbed.model.device_kind import KINDS, hot_device
from testbed.model.errors import RefusedError

if TYPE_CHECKING:
    from testbed.host.qemu import Qemu
    from testbed.model.spec import MachineSpec

    from .conftest import LaunchMachine

TOPOLOGIES: list[tuple[str, dict[str, Any]]] = [
    ("q35", {"ports": 6}),
    ("q35", {"hotplug": "native"}),
    ("q35", {"ports": 16, "ports_per_slot": 8}),
    ("q35", {"ports": 3, "functions": 8}),
    ("q35", {"topology": "switch", "ports": 5}),
    ("q35", {"topology": "switch", "depth": 4, "hotplug": "native"}),
    ("q35", {"topology": "pcie-pci-bridge"}),
    ("q35", {"topology": "pcie-pci-bridge", "hotplug": "native", "functions": 2}),
    ("q35", {"topology": "pci-bridge", "ports": 12}),
    ("q35", {"topology": "pci-bridge", "depth": 3, "hotplug": "native"}),
    ("q35", {"topology": "pxb"}),
    ("q35", {"topology": "pxb", "ports": 8, "ports_per_slot": 4}),
    ("i440fx", {}),
    ("i440fx", {"functions": 4}),
    ("i440fx", {"topology": "pci-bridge"}),
    ("i440fx", {"topology": "pci-bridge", "depth": 3, "functions": 2}),
    ("i440fx", {"topology": "pci-bridge", "hotplug": "shpc"}),
]

#: QEMU 7.2 asks the port first (native hot-plug), 10.0 the bus
REFUSED = "unsupported by the port device|not support hotplug"

#: where a device is refused
REFUSING: list[tuple[str, dict[str, Any]]] = [
    ("q35", {"hotplug": "native", "port_properties": {"hotplug": False}}),
    ("q35", {"hotplug": "acpi", "port_properties": {"hotplug": False}}),
    ("q35", {"topology": "switch", "hotplug": "native", "port_properties": {"hotplug": False}}),
    ("q35", {"topology": "pci-bridge", "hotplug": "native", "port_properties": {"shpc": False}}),
    ("i440fx", {"hotplug": "off"}),
    ("i440fx", {"topology": "pci-bridge", "hotplug": "off"}),
]


def described(name: str, parameters: dict[str, Any]) -> MachineSpec:
    return load_template(name).spec({"memory": 128, **parameters})


@pytest.mark.parametrize(("name", "parameters"), TOPOLOGIES)
async def test_every_free_place_takes_a_device(name: str, parameters: dict[str, Any], launched: LaunchMachine) -> None:
    spec = described(name, parameters)
    assert spec.slots
    async with launched(spec) as machine:
        for n, slot in enumerate(spec.slots):
            parts = hot_device("virtio-net", slot, device_id=f"hot{n}")
            await add_parts(machine, parts)
        buses = {device.id: device.bus for device in await live_devices(machine)}
        assert [buses[f"hot{n}"] for n in range(len(spec.slots))] == [slot.bus for slot in spec.slots]
        assert {device.id for device in spec.devices} <= set(buses)


@pytest.mark.parametrize(("name", "parameters"), REFUSING)
async def test_a_place_without_hotplug_refuses_a_device(
    name: str, parameters: dict[str, Any], launched: LaunchMachine
) -> None:
    spec = described(name, parameters)
    parts = hot_device("xhci", spec.slots[0])
    async with launched(spec) as machine:
        with pytest.raises(RefusedError, match=REFUSED):
            await add_parts(machine, parts)


async def test_nothing_is_left_of_a_device_that_was_refused(launched: LaunchMachine) -> None:
    spec = described("q35", {"hotplug": "native", "port_properties": {"hotplug": False}})
    async with launched(spec) as machine:
        for kind in ("virtio-blk", "virtio-net"):
            for _ in range(2):  # the second time its disk or network must not be there already
                with pytest.raises(RefusedError, match=REFUSED):
                    await add_parts(machine, hot_device(kind, spec.slots[0]))


@pytest.mark.parametrize("name", ["q35", "i440fx"])
async def test_every_kind_of_device_is_taken_cold_and_hot(name: str, launched: LaunchMachine, qemu: Qemu) -> None:
    # virtual functions have their own device numbers or buses, which a conventional bus has not
    lacking = {"igb"} if name == "i440fx" else set()
    kinds = [kind.name for kind in KINDS if kind.driver in qemu.drivers - lacking]
    free = {"ports": 2 * len(kinds)} if name == "q35" else {"free_slots": len(kinds)}
    spec = described(name, {"devices": kinds, **free})
    async with launched(spec) as machine:
        for n, kind in enumerate(kinds):
            parts = hot_device(kind, spec.slots[n], device_id=f"hot{n}")
            await add_parts(machine, parts)
        drivers = {device.id: device.driver for device in await live_devices(machine)}
        assert [drivers[f"hot{n}"] for n in range(len(kinds))] == [drivers[f"dev{n + 1}"] for n in range(len(kinds))]

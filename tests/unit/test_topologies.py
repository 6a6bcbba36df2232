"""Topologies of the shipped templates: whatever is asked for, every device and free slot has a place of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.machine.template import load_template
from testbed.model.device_kind import KINDS, cold_parts, device_kind, driver_kind, hot_device, kinds_of
from testbed.model.errors import InputError
from testbed.model.spec import CONVENTIONAL_BRIDGES, MachineSpec, Slot

if TYPE_CHECKING:
    from testbed.machine.template import Template
    from testbed.model.spec import Device

Q35, I440FX = load_template("q35"), load_template("i440fx")
NAMES = [kind.name for kind in KINDS]

some_devices = st.lists(st.sampled_from(NAMES), max_size=12)
q35_parameters = st.fixed_dictionaries(
    {
        "topology": st.sampled_from(Q35.parameters["topology"].choices or []),
        "ports": st.integers(0, 28),
        "functions": st.integers(1, 8),
        "devices": some_devices,
    },
    optional={
        "depth": st.integers(1, 8),
        "ports_per_slot": st.integers(1, 8),
        "port_properties": st.sampled_from([{}, {"multifunction": False}]),
        "hotplug": st.sampled_from(["default", "acpi", "native"]),
    },
)
i440fx_parameters = st.fixed_dictionaries(
    {
        "topology": st.sampled_from(I440FX.parameters["topology"].choices or []),
        "free_slots": st.integers(0, 12),
        "functions": st.integers(1, 8),
        "devices": some_devices,
    },
    optional={"depth": st.integers(1, 8), "hotplug": st.sampled_from(I440FX.parameters["hotplug"].choices or [])},
)


def bridges_above(spec: MachineSpec, part: Device | Slot) -> list[str]:
    """Return the drivers from a part's bus up to the root bus."""
    found, bus = [], part.bus
    while bus not in (None, spec.root_bus):
        device = spec.device(str(bus).removesuffix(".0"))
        found.append(device.driver)
        bus = device.bus
    return found


def cold(spec: MachineSpec) -> list[Device]:
    return [device for device in spec.devices if device.id.startswith("dev") and "-" not in device.id]


def parts_in_places(spec: MachineSpec) -> list[Device | Slot]:
    return [*cold(spec), *spec.slots]


@settings(deadline=None, max_examples=40)
@given(q35_parameters)
def test_q35_places_every_device_and_calls_the_rest_free(parameters: dict[str, Any]) -> None:
    topology, devices, functions = parameters["topology"], parameters["devices"], parameters["functions"]
    needed = -(-len(devices) // functions)
    fits = (
        needed <= parameters["ports"]
        and (parameters.get("depth", 1) == 1 or topology in ("switch", "pci-bridge"))
        and (parameters.get("ports_per_slot", 1) == 1 or topology in ("ports", "pxb"))
        and not (parameters.get("port_properties") and topology == "pcie-pci-bridge")
    )
    if not fits:
        with pytest.raises(InputError):
            Q35.spec(parameters)
        return
    spec = Q35.spec(parameters)
    assert [device.driver for device in cold(spec)] == [device_kind(name).driver for name in devices]
    assert len(spec.slots) == (parameters["ports"] - needed) * functions
    numbers = [(port.properties["chassis"], port.properties["slot"]) for port in spec.devices if _is_port(port)]
    assert len(numbers) == len(set(numbers))
    for part in parts_in_places(spec):
        assert (bridges_above(spec, part)[0] in CONVENTIONAL_BRIDGES) is ("bridge" in topology)


def _is_port(device: Device) -> bool:
    return device.driver in ("pcie-root-port", "xio3130-downstream")


@settings(deadline=None, max_examples=40)
@given(i440fx_parameters)
def test_i440fx_places_every_device_and_keeps_free_what_was_asked_for(parameters: dict[str, Any]) -> None:
    bridged = parameters["topology"] == "pci-bridge"
    if not bridged and (parameters.get("depth", 1) > 1 or parameters.get("hotplug") == "shpc"):
        with pytest.raises(InputError):
            I440FX.spec(parameters)
        return
    spec = I440FX.spec(parameters)
    assert len(cold(spec)) == len(parameters["devices"])
    assert len(spec.slots) == parameters["free_slots"] * parameters["functions"]
    for part in parts_in_places(spec):
        assert bridges_above(spec, part) == ["pci-bridge"] * (parameters.get("depth", 1) if bridged else 0)


@pytest.mark.parametrize(
    ("parameters", "above"),
    [
        ({}, ["pcie-root-port"]),
        ({"topology": "switch"}, ["xio3130-downstream", "x3130-upstream", "pcie-root-port"]),
        (
            {"topology": "switch", "depth": 2},
            ["xio3130-downstream", "x3130-upstream", "xio3130-downstream", "x3130-upstream", "pcie-root-port"],
        ),
        ({"topology": "pcie-pci-bridge"}, ["pcie-pci-bridge", "pcie-root-port"]),
        ({"topology": "pci-bridge", "depth": 2}, ["pci-bridge", "pci-bridge", "pcie-pci-bridge", "pcie-root-port"]),
        ({"topology": "pxb"}, ["pcie-root-port", "pxb-pcie"]),
    ],
)
def test_what_stands_above_a_device_on_q35(parameters: dict[str, Any], above: list[str]) -> None:
    spec = Q35.spec(parameters)
    for part in (spec.device("dev1"), spec.slots[0]):
        assert bridges_above(spec, part) == above


def test_the_functions_of_a_free_slot_come_with_function_0_last() -> None:
    spec = Q35.spec({"ports": 2, "functions": 3})
    assert [(slot.bus, slot.addr) for slot in spec.slots] == [("rp2", f"0x0.{n}") for n in (2, 1, 0)]
    assert spec.device("dev1").addr == "0x0.0"
    assert spec.device("dev1").properties["multifunction"] is True


def test_root_ports_can_be_functions_of_one_slot() -> None:
    ports = Q35.spec({"ports": 5, "ports_per_slot": 4}).devices_of("pcie-root-port")
    assert [port.addr for port in ports] == ["0x2.0", "0x2.1", "0x2.2", "0x2.3", "0x3.0"]
    assert all(port.properties["multifunction"] is True for port in ports)


def test_only_the_ports_with_places_get_the_ports_properties() -> None:
    spec = Q35.spec({"topology": "switch", "depth": 2, "port_properties": {"hotplug": False}})
    given_to = {port.id for port in spec.devices if "hotplug" in port.properties}
    assert given_to == {"sw2p1", "sw2p2", "sw2p3", "sw2p4"}


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("q35", {"depth": 2}, "depth: topology ports has no levels"),
        ("q35", {"topology": "switch", "ports_per_slot": 2}, "ports_per_slot: topology switch has one root port"),
        ("q35", {"topology": "pcie-pci-bridge", "port_properties": {"shpc": False}}, "port_properties: topology pcie-"),
        ("q35", {"ports": 1, "functions": 2, "devices": ["xhci"] * 3}, "2 devices need as many ports, there are 1"),
        ("i440fx", {"depth": 2}, "are a pci-bridge's: -p topology=pci-bridge"),
        ("i440fx", {"hotplug": "shpc"}, "are a pci-bridge's: -p topology=pci-bridge"),
        ("i440fx", {"functions": 2, "devices": ["xhci"] * 25}, "room for 24 here, 25 are given"),
    ],
)
def test_what_does_not_fit_together_is_refused(name: str, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_template(name).spec(parameters)


# ---- kinds of devices ----


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("addr", [None, "0x5", "0x5.1"])
def test_a_device_is_the_same_cold_and_hot(name: str, addr: str | None) -> None:
    functions = 2 if addr and "." in addr else 1
    spec = Q35.spec({"devices": [name], "functions": functions})
    parts = hot_device(name, Slot(bus="rp1", addr=addr), device_id="dev1")
    plain = {"dev1-disk": "disk1", "dev1-net": "net1"}
    for hot in (parts.device, *parts.children):
        kept = spec.device(hot.id)
        properties = {key: plain.get(str(value), value) for key, value in hot.properties.items()}
        assert (hot.driver, hot.bus, properties) == (kept.driver, kept.bus, kept.properties)
    assert (len(spec.disks), len(spec.networks)) == (bool(parts.disk), bool(parts.network))


def test_a_kind_is_found_by_short_name_before_qemus() -> None:
    assert device_kind("virtio-net-modern").properties == {"disable-legacy": True, "disable-modern": False}
    assert device_kind("virtio-net-pci") is device_kind("virtio-net")
    assert device_kind("qemu-xhci").name == "xhci"


def test_a_driver_without_a_short_name_has_nothing_behind_it() -> None:
    parts = hot_device("edu", Slot(bus="rp1"))
    assert parts.device.to_qmp() == {"driver": "edu", "id": "hot1", "bus": "rp1"}
    assert (parts.disk, parts.network, parts.children) == (None, None, ())


def test_what_stands_behind_a_driver_without_a_short_name_is_told_by_its_properties() -> None:
    behind = {name: hot_device(driver_kind(name, properties), Slot(bus="rp1")) for name, properties in [
        ("nvme", ["drive", "serial"]), ("rtl8139", ["netdev"]), ("floppy", ["drive"]), ("edu", ["dma_mask"]),
    ]}  # fmt: skip
    assert behind["nvme"].kind is device_kind("nvme")
    assert {name: sorted(parts.device.properties) for name, parts in behind.items()} == {
        "nvme": ["drive", "serial"], "rtl8139": ["netdev"], "floppy": ["drive"], "edu": [],
    }  # fmt: skip
    assert [bool(parts.disk) for parts in behind.values()] == [True, False, True, False]
    assert [bool(parts.network) for parts in behind.values()] == [False, True, False, False]


def test_properties_given_stand_above_the_kinds_own_and_a_drive_given_is_not_made() -> None:
    parts = hot_device("virtio-blk", Slot(bus="rp1"), properties={"serial": "x", "drive": "there"})
    assert (parts.device.properties, parts.disk) == ({"serial": "x", "drive": "there"}, None)
    legacy = hot_device("virtio-net-legacy", Slot(bus="rp1"), properties={"mac": "52:54:00:00:00:01"})
    assert legacy.network is not None
    assert legacy.device.properties == {
        "disable-legacy": False, "disable-modern": True, "netdev": legacy.network.id, "mac": "52:54:00:00:00:01",
    }  # fmt: skip


@pytest.mark.parametrize("name", [kind.name for kind in KINDS if kind.proof == "disk"])
def test_the_parts_of_a_cold_disk_are_those_of_a_hot_one(name: str) -> None:
    spec = Q35.spec({"devices": ["e1000", name]})
    parts = cold_parts(spec, spec.device("dev2"))
    hot = hot_device(name, Slot(bus="rp2"), device_id="dev2")
    assert parts.disk is spec.disks[0]
    assert (parts.kind, len(parts.children)) == (hot.kind, len(hot.children))


def test_kinds_are_named_by_their_proof_or_their_own_name() -> None:
    assert [kind.name for kind in kinds_of("disk")] == ["virtio-blk", "virtio-scsi", "nvme"]
    assert kinds_of("nvme") == (device_kind("nvme"),)
    assert {kind.proof for kind in kinds_of("nic")} == {"nic"}


def test_several_disks_stand_on_one_controller_each_with_its_own_serial_number() -> None:
    spec = Q35.spec({"devices": ["virtio-scsi", "nvme"], "luns": 3})
    luns = spec.devices_of("scsi-hd")
    assert [each.id for each in luns] == ["dev1-lun", "dev1-lun2", "dev1-lun3"]
    assert {each.bus for each in luns} == {"dev1.0"}
    assert len({each.properties["serial"] for each in luns}) == 3
    assert [disk.id for disk in spec.disks] == ["disk1", "disk1-2", "disk1-3", "disk2"]
    assert I440FX.spec({"devices": ["virtio-scsi"], "luns": 3}).devices_of("scsi-hd") == luns


@pytest.mark.parametrize("template", [Q35, I440FX], ids=["q35", "i440fx"])
def test_devices_are_numbered_for_the_firmware_if_asked_for(template: Template) -> None:
    devices = ["virtio-blk", "e1000"]
    numbered = cold(template.spec({"devices": devices, "acpi_index": True}))
    assert [each.properties["acpi-index"] for each in numbered] == [1, 2]
    assert not any("acpi-index" in each.properties for each in cold(template.spec({"devices": devices})))


@pytest.mark.parametrize(
    ("vfs", "queues", "vectors"), [(4, None, None), (31, None, None), (32, 66, None), (65, 132, 66), (127, 256, 128)]
)
def test_an_nvme_has_the_queues_and_interrupts_that_its_vfs_want(
    vfs: int, queues: int | None, vectors: int | None
) -> None:
    card = load_template("sriov").spec({"pf": "nvme", "vfs": vfs}).device("dev1").properties
    assert (card.get("max_ioqpairs"), card.get("msix_qsize")) == (queues, vectors)
    assert (card["sriov_vq_flexible"], card["sriov_vi_flexible"]) == (2 * vfs, vfs)


@pytest.mark.parametrize("name", ["sriov", "level1"])
def test_every_template_has_slots_that_are_free(name: str) -> None:
    spec = load_template(name).spec({"free_slots": 2})
    ports = [each.id for each in spec.devices_of("pcie-root-port")]
    assert [slot.bus for slot in spec.slots] == ports[-2:]
    assert not {device.bus for device in spec.devices} & set(ports[-2:])
    assert len(load_template(name).spec({}).slots) == 1

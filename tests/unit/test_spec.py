"""MachineSpec: what hangs together is taken; what does not is refused by the path and line of the mistake."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.model.errors import InputError
from testbed.model.spec import Device, MachineSpec
from testbed.model.yaml_reader import parse_yaml

PORT = {"driver": "pcie-root-port", "id": "rp1", "bus": "pcie.0", "addr": "0x2"}
DISK = {"driver": "virtio-blk-pci", "id": "dev1", "bus": "rp1", "properties": {"drive": "disk1"}}


def spec(**parts: Any) -> MachineSpec:
    return MachineSpec.model_validate({"machine_type": "q35", **parts})


def mistake(yaml: str) -> str:
    """Return what is wrong with the machine on these lines, the first of which is line 2."""
    (document,) = parse_yaml(f"machine_type: q35\n{yaml}", source="machine.yaml")
    with pytest.raises(InputError) as caught:
        document.validate(MachineSpec)
    return caught.value.message


def test_a_machine_of_ports_disks_networks_and_slots_is_taken() -> None:
    machine = spec(
        disks=[{"id": "disk1"}],
        networks=[{"id": "net1"}],
        devices=[PORT, DISK, {"driver": "e1000", "id": "dev2", "properties": {"netdev": "net1"}}],
        slots=[{"bus": "pcie.0", "addr": "0x10"}],
    )
    assert machine.buses == ["pcie.0", "rp1"]
    assert machine.device("dev1").driver == "virtio-blk-pci"
    assert [device.id for device in machine.devices_of("e1000", "virtio-blk-pci")] == ["dev1", "dev2"]


def test_an_unknown_device_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="dev9"):
        spec(devices=[PORT]).device("dev9")


@pytest.mark.parametrize(
    ("machine_type", "bus"),
    [("q35", "pcie.0"), ("pc-q35-7.2", "pcie.0"), ("pc", "pci.0"), ("pc-i440fx-7.2", "pci.0")],
)
def test_the_root_bus_follows_the_machine_type(machine_type: str, bus: str) -> None:
    assert MachineSpec(machine_type=machine_type).root_bus == bus


def test_one_dict_feeds_device_and_device_add() -> None:
    device = Device(driver="virtio-blk-pci", id="dev1", bus="rp1", addr="0x0", properties={"drive": "d", "x": False})
    assert device.to_qmp() == {
        "driver": "virtio-blk-pci",
        "id": "dev1",
        "bus": "rp1",
        "addr": "0x0",
        "drive": "d",
        "x": False,
    }
    assert Device(driver="e1000", id="n").to_qmp() == {"driver": "e1000", "id": "n"}


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        (
            "devices:\n- {driver: e1000, id: a}\n- {driver: e1000, id: a}",
            "machine.yaml:4: devices.1.id: 'a' is used twice",
        ),
        ("disks:\n- {id: d}\n- {id: d}", "machine.yaml:4: disks.1.id: 'd' is used twice"),
        ("networks: [{id: n}, {id: n}]", "machine.yaml:2: networks.1.id: 'n' is used twice"),
        (
            "devices:\n- driver: e1000\n  id: a\n  bus: rp9",
            "machine.yaml:5: devices.0.bus: there is no bus 'rp9'; there are: pcie.0",
        ),
        ("slots:\n- bus: rp9", "machine.yaml:3: slots.0.bus: there is no bus 'rp9'"),
        ("devices:\n- {driver: e1000, id: a, bus: a}", "devices.0.bus: there is no bus 'a'"),
        (
            "devices:\n- driver: virtio-blk-pci\n  id: a\n  properties:\n    drive: d9",
            "machine.yaml:6: devices.0.properties.drive: there is no 'd9'; there are: none",
        ),
        (
            "networks: [{id: net1}]\ndevices:\n- {driver: e1000, id: a, properties: {netdev: net2}}",
            "machine.yaml:4: devices.0.properties.netdev: there is no 'net2'; there are: net1",
        ),
        ("devices:\n- id: a", "machine.yaml:3: devices.0.driver: Field required"),
        ("cpus: many", "machine.yaml:2: cpus: Input should be a valid integer"),
        ('cpus: "2"', "machine.yaml:2: cpus: Input should be a valid integer"),
        ("cpus: 0", "machine.yaml:2: cpus: Input should be greater than or equal to 1"),
        ("memory_mib: true", "machine.yaml:2: memory_mib: "),
        ("devices: {}", "machine.yaml:2: devices: Input should be a valid list"),
        ("\nmemory: 512", "machine.yaml:3: memory: Extra inputs are not permitted"),
        ("devices:\n- {driver: e1000, id: 1st}", "machine.yaml:3: devices.0.id: String should match pattern"),
        ("devices:\n- {driver: 'e1000,x=1', id: a}", "machine.yaml:3: devices.0.driver: String should match pattern"),
        ("devices:\n- {driver: e1000, id: a, addr: '32'}\n- {driver: e1000, id: a, addr: x}", "devices.1.addr"),
        ("devices:\n- {driver: e1000, id: a, properties: {b: [1]}}", "machine.yaml:3: devices.0.properties.b"),
        ("devices:\n- driver: e1000\n  id: a\n  properties: {addr: '0x3'}", "addr belongs beside properties"),
        ("devices:\n- driver: e1000\n  id: a\n  properties: {id: b}", "machine.yaml:5: devices.0.properties: "),
        ("cpu: 'qemu64,,x'", "machine.yaml:2: cpu: "),
        ("cpu: ',x'", "machine.yaml:2: cpu: "),
        ("cpu: 'a b'", "machine.yaml:2: cpu: "),
    ],
)
def test_a_mistake_is_named_by_line_path_and_reason(yaml: str, message: str) -> None:
    assert message in mistake(yaml)


def test_an_unknown_key_is_answered_with_the_known_ones() -> None:
    (document,) = parse_yaml("machine_type: q35\nmemory: 1", source="m")
    with pytest.raises(InputError) as caught:
        document.validate(MachineSpec)
    assert caught.value.hint is not None
    assert "memory_mib" in caught.value.hint


@pytest.mark.parametrize(
    "second",
    [
        {"driver": "e1000", "id": "dev2", "bus": "rp1"},
        {"driver": "e1000", "id": "dev2", "bus": "rp1", "addr": "0x0"},
        {"driver": "e1000", "id": "dev2", "bus": "rp1", "addr": "00.0"},
        {"driver": "e1000", "id": "dev2", "bus": "pcie.0", "addr": "2"},
        {"driver": "e1000", "id": "dev2", "bus": "pcie.0", "addr": "02.0"},
    ],
)
def test_an_occupied_place_is_refused_with_who_is_there(second: dict[str, Any]) -> None:
    occupant = "dev1" if second["bus"] == "rp1" else "rp1"
    with pytest.raises(ValueError, match=f"is occupied by {occupant}"):
        spec(disks=[{"id": "disk1"}], devices=[PORT, DISK, second])


def test_a_free_slot_must_be_free() -> None:
    with pytest.raises(ValueError, match=r"rp1 slot 0\.0 is occupied by dev1"):
        spec(disks=[{"id": "disk1"}], devices=[PORT, DISK], slots=[{"bus": "rp1"}])
    with pytest.raises(ValueError, match=r"rp1 slot 0\.0 is occupied by slots\.0"):
        spec(devices=[PORT], slots=[{"bus": "rp1"}, {"bus": "rp1"}])


def test_functions_of_one_slot_and_slots_chosen_by_qemu_do_not_collide() -> None:
    functions = [
        {"driver": "e1000", "id": f"f{n}", "bus": "pcie.0", "addr": f"0x3.{n}", "properties": {"multifunction": True}}
        for n in range(2)
    ]
    anywhere = [{"driver": "e1000", "id": f"n{n}", "bus": "pcie.0"} for n in range(2)]
    assert len(spec(devices=[*functions, *anywhere]).devices) == 4


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        spec().cpus = 2  # type: ignore[misc]

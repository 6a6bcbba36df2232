"""Which devices device-plug adds, and where; what it says of those that it cannot add."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed.host.qemu import Qemu
from testbed.machine.template import load_template
from testbed.model.bar import size_option, size_words
from testbed.model.device_needs import lacking_backend
from testbed.model.errors import InputError, UnsupportedError
from testbed.scenarios.device_choice import Step, choose
from testbed.scenarios.device_plug import device_plug

_PCI = {
    "virtio-blk-pci": ("drive", "serial"),
    "virtio-rng-pci": ("rng", "max-bytes"),
    "pci-testdev": ("membar",),
    "pci-serial": ("chardev",),
    "pcie-pci-bridge": ("msi",),
    "x3130-upstream": (),
    "xio3130-downstream": ("chassis", "slot", "port"),
    "ivshmem-plain": ("memdev",),
    "vfio-pci": ("host",),
}
_OTHERS = {
    "scsi-hd": ("drive", "serial", "lun", "scsi-id"),
    "usb-kbd": ("port", "serial"),
    "isa-debugcon": ("chardev",),
}


class KnownQemu(Qemu):
    """A QEMU with some drivers, which is not asked."""

    def properties(self, driver: str) -> dict[str, str]:
        return dict.fromkeys({**_PCI, **_OTHERS}[driver], "str")


QEMU = KnownQemu(
    path=Path("/qemu"),
    version="7.2",
    machine_types=("q35",),
    drivers=frozenset({**_PCI, **_OTHERS}),
    sandbox=True,
    pci_drivers=frozenset(_PCI),
)


def steps(driver: str, machine: str = "q35", *, parameters: dict[str, Any] | None = None, **options: Any) -> list[Step]:
    spec = load_template(machine).spec(parameters or {})
    return choose(spec, QEMU, device_plug.values({"driver": driver, **options}))


def places(found: list[Step]) -> list[tuple[str | None, str | None]]:
    return [(step.parts.device.bus, step.parts.device.addr) for step in found]


def test_devices_stand_in_the_free_slots_from_the_one_that_is_named() -> None:
    assert places(steps("virtio-blk", count=2)) == [("rp2", None), ("rp3", None)]
    assert places(steps("virtio-blk", count=2, slot="rp3")) == [("rp3", None), ("rp4", None)]
    assert places(steps("virtio-rng", machine="i440fx", slot="pci.0:0x11")) == [("pci.0", "0x11")]


def test_function_0_comes_last_and_is_the_one_that_is_awaited() -> None:
    found = steps("virtio-blk", functions=3)
    assert places(found) == [("rp2", "0x0.2"), ("rp2", "0x0.1"), ("rp2", "0x0.0")]
    assert [step.awaited for step in found] == [False, False, True]
    assert all(step.parts.device.properties["multifunction"] for step in found)


def test_slots_that_are_functions_are_taken_as_a_whole() -> None:
    assert [step.awaited for step in steps("virtio-blk", parameters={"functions": 2}, count=2)] == [False, True]
    with pytest.raises(InputError, match="leave out function 0"):
        steps("virtio-blk", parameters={"functions": 2}, count=1)


def test_each_device_behind_a_switch_has_a_port_of_its_own() -> None:
    bridge, first, second = steps("pcie-pci-bridge", behind=["virtio-blk", "virtio-rng-pci"])
    assert places([first, second]) == [(bridge.parts.device.id, "0x1"), (bridge.parts.device.id, "0x2")]
    switch, port, disk = steps("x3130-upstream", behind=["virtio-blk"])
    assert (port.parts.device.bus, disk.parts.device.bus) == (switch.parts.device.id, port.parts.device.id)


def test_luns_come_after_those_of_the_machine_and_usb_devices_into_ports() -> None:
    parameters = {"devices": ["virtio-blk", "virtio-scsi", "xhci"], "luns": 3}
    luns = [step.parts.device for step in steps("scsi-hd", parameters=parameters, count=2)]
    assert [(each.bus, each.properties["lun"]) for each in luns] == [("dev2.0", 3), ("dev2.0", 4)]
    (keyboard,) = steps("usb-kbd", parameters=parameters, slot="dev3")
    assert (keyboard.parts.device.bus, keyboard.parts.device.properties["port"]) == ("dev3.0", "1")


def test_a_character_device_is_made_for_a_driver_that_has_one() -> None:
    (step,) = steps("pci-serial")
    assert step.parts.device.properties["chardev"] == step.parts.chardev != ""


@pytest.mark.parametrize(
    ("driver", "options", "words"),
    [
        ("ivshmem-plain", {}, "needs a memory backend"),
        ("vfio-pci", {}, "needs a host device"),
        ("isa-debugcon", {}, "sits on a bus for which the test bed has no proof of life"),
        ("virtio-blk", {"slot": "rp9"}, "free slot 'rp9' does not exist"),
        ("virtio-blk", {"behind": ["virtio-blk"]}, "is not a bridge"),
        ("pci-testdev", {"properties": {"mambar": "1G"}}, "property 'mambar' does not exist"),
        ("no-such-device", {}, "does not exist"),
    ],
)
def test_what_cannot_be_added_is_told_before_a_guest_boots(driver: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as error:
        steps(driver, **options)
    assert words in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize(
    ("driver", "options"), [("virtio-blk", {"count": 9}), ("scsi-hd", {}), ("usb-kbd", {})], ids=str
)
def test_what_the_machine_has_no_place_for_is_skipped(driver: str, options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError) as error:
        steps(driver, **options)
    assert error.value.hint


def test_a_backend_that_may_be_left_out_is_not_lacking() -> None:
    assert lacking_backend("nvme", ["drive", "pmrdev", "subsys"]) == ""
    assert lacking_backend("virtio-rng-pci", ["rng"]) == ""
    assert "several" in lacking_backend("pci-serial-2x", ["chardev1", "chardev2"])
    assert "vhost-user" in lacking_backend("vhost-user-blk-pci", ["chardev"])
    assert "vhost-user" not in lacking_backend("vhost-vsock-pci", ["guest-cid"])


def test_a_size_is_told_whole() -> None:
    assert [size_words(each) for each in (256, 4096, 1536, 2 << 20, 16 << 30)] == [
        "256 bytes",
        "4 KiB",
        "1536 bytes",
        "2 MiB",
        "16 GiB",
    ]
    assert size_option(16 << 30) == "16G"

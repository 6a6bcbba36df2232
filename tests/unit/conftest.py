"""What unit tests use in place of a QEMU binary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.host.qemu import Qemu
from testbed.model.catalog import unknown

if TYPE_CHECKING:
    from collections.abc import Callable

#: properties as QEMU 7.2 lists them, cut to what the tests need
PROPERTIES = {
    "pcie-root-port": {
        "chassis": "uint8",
        "slot": "uint16",
        "hotplug": "bool",
        "multifunction": "bool",
        "power_controller_present": "bool",
    },
    "virtio-blk-pci": {
        "drive": "str",
        "serial": "str",
        "disable-legacy": "OnOffAuto",
        "bootindex": "int32",
        "discard_granularity": "size",
    },
    "virtio-net-pci": {"netdev": "str", "mac": "str"},
    # as 5.2 has them
    "ICH9-LPC": {"disable_s3": "uint8"},
    "PIIX4_PM": {"acpi-pci-hotplug-with-bridge-support": "bool"},
    "e1000": {"mac": "str"},
}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Give all of them to one worker, as the first it does, since guests leave the cores idle now and then."""
    if not item.get_closest_marker("xdist_group"):
        item.add_marker(pytest.mark.xdist_group("unit"))
        item.add_marker(pytest.mark.seconds(300))


class PaperQemu(Qemu):
    """A QEMU that knows its properties without being asked."""

    def properties(self, driver: str) -> dict[str, str]:
        """Return what the table says."""
        if driver not in PROPERTIES:
            raise unknown("device", driver, PROPERTIES)
        return PROPERTIES[driver]


@pytest.fixture
def paper_qemu() -> Callable[..., Qemu]:
    """Return a maker of QEMU descriptions that run nothing."""

    def made(
        *, sandbox: bool = True, json_devices: bool = True, path: str = "/opt/qemu/bin/qemu-system-x86_64"
    ) -> Qemu:
        return PaperQemu(
            path=Path(path),
            version="7.2.22",
            machine_types=("q35", "pc-q35-7.2", "pc"),
            drivers=frozenset(PROPERTIES),
            sandbox=sandbox,
            json_devices=json_devices,
        )

    return made

"""The disk of a customer's system: the image, open for reading alone, under an overlay in the machine's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed.model.spec import Device

if TYPE_CHECKING:
    from pathlib import PurePath

    from testbed.image.disk.disk_name import DiskName
    from testbed.image.disk.opened import OpenDisk
    from testbed.model.spec import MachineSpec

#: in a machine's folder: what its guest has written to the disk
OVERLAY = "system.qcow2"
#: by which the guest knows the disk: guest-images/whole.c
SERIAL = "testbed-system"
NODE = "system"
#: a slot of the root bus that no template uses: below it are ports and places, above it is the ICH9's own
_SLOT = "0x1e"


@dataclass(frozen=True, kw_only=True)
class SystemDisk:
    """A disk whose own user space is to run."""

    name: DiskName
    size: int  #: bytes, as the guest sees it
    digest: str  #: of its content


def system_device(spec: MachineSpec, *, first: bool) -> Device:
    """Return the device that the guest finds the disk by; it may be the `first` that the firmware starts."""
    properties: dict[str, str | int | bool] = {"drive": NODE, "serial": SERIAL}
    if first:
        properties["bootindex"] = 0
    return Device(driver="virtio-blk-pci", id="system", bus=spec.root_bus, addr=_SLOT, properties=properties)


def is_system_node(text: str) -> bool:
    """Tell whether a JSON text of a machine's command line is the block node of the disk."""
    return bool(json.loads(text).get("node-name") == NODE)


def system_options(disk: OpenDisk, folder: PurePath) -> list[str]:
    """Return what makes the block node of the disk."""
    node: dict[str, Any] = {
        "driver": "qcow2",
        "node-name": NODE,
        "cache": {"no-flush": True},
        "file": {"driver": "file", "filename": str(folder / OVERLAY)},
        "backing": disk.node(),
    }
    return [*disk.arguments(), "-blockdev", json.dumps(node)]

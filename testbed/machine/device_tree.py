"""QEMU's device tree as it is now: every device that has an id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.model.errors import RefusedError

if TYPE_CHECKING:
    from testbed.machine.launch import Machine

_PERIPHERAL = "/machine/peripheral"


@dataclass(frozen=True, kw_only=True)
class LiveDevice:
    """A device of the running machine."""

    id: str
    driver: str
    bus: str  #: empty for one that stands on none


async def device_ids(machine: Machine) -> list[str]:
    """Return the ids of the devices, sorted."""
    return sorted(child["name"] for child in await _children(machine))


async def live_devices(machine: Machine) -> list[LiveDevice]:
    """Return the devices, in QEMU's own order, which is none."""
    return [
        LiveDevice(
            id=child["name"],
            driver=_driver(child),
            bus=await _bus(machine, child["name"]),
        )
        for child in await _children(machine)
    ]


async def driver_of(machine: Machine, device_id: str) -> str:
    """Return the driver of a device that is there; empty if it has gone meanwhile."""
    return next((_driver(child) for child in await _children(machine) if child["name"] == device_id), "")


def _driver(child: dict[str, str]) -> str:
    return child["type"].removeprefix("child<").removesuffix(">")


async def _children(machine: Machine) -> list[dict[str, str]]:
    properties = await machine.qmp.execute_unlogged("qom-list", {"path": _PERIPHERAL})
    return [each for each in properties if each["type"].startswith("child<")]


async def _bus(machine: Machine, device_id: str) -> str:
    """Return the name of the bus a device stands on: the last part of its path in the tree."""
    try:
        path = await machine.qmp.execute("qom-get", {"path": f"{_PERIPHERAL}/{device_id}", "property": "parent_bus"})
    except RefusedError:  # it went meanwhile
        return ""
    return PurePosixPath(path).name

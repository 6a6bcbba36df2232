"""QEMU's device tree with every property, as the monitor's `info qtree` tells it.

Source: QEMU softmmu/qdev-monitor.c, qdev_print() and pcibus_dev_print() (7.2); system/qdev-monitor.c (10.x).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from testbed.model.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.machine.launch import Machine

_DEVICE = re.compile(r'(dev|bus): ([^ ,]{1,80})(?:, id "([^"]{0,80})")?')
_PROPERTY = re.compile(r"([A-Za-z][A-Za-z0-9_.\[\]-]{0,80}) = (.{0,400})")
_IS_PCI = re.compile(r"class [^,]{1,80}, addr ")
_PLAIN_TYPES = ("bool", "str", "string", "uint8", "uint16", "uint32", "uint64", "int", "OnOffAuto")
_UNATTACHED = "/machine/unattached"


@dataclass(frozen=True, kw_only=True)
class TreeDevice:
    """A device of the tree."""

    driver: str
    id: str = ""
    bus: str = ""  #: the bus it stands on
    is_pci: bool = False
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The devices at one moment."""

    machine_type: str
    devices: tuple[TreeDevice, ...]
    evidence: str  #: the reply's line in qmp.jsonl


async def read_tree(machine: Machine) -> Tree:
    """Ask QEMU for its tree; what firmware devices keep out of it (ACPI's PCI hot-plug) is asked of them one by one."""
    kind = await machine.qmp.execute("qom-get", {"path": "/machine", "property": "type"})
    text = await machine.qmp.execute_unrepeated("human-monitor-command", {"command-line": "info qtree"})
    evidence = machine.qmp.last_reply
    devices = parse_tree(text)
    own = {device.driver for device in devices if device.is_pci and not device.id}
    hidden = await _hidden(machine, own)
    return Tree(
        machine_type=str(kind).removesuffix("-machine"),
        devices=tuple(
            device if device.id else replace(device, properties={**hidden.get(device.driver, {}), **device.properties})
            for device in devices
        ),
        evidence=evidence,
    )


async def _hidden(machine: Machine, drivers: set[str]) -> dict[str, dict[str, str]]:
    """Return the properties of the machine's own PCI devices by driver."""
    found: dict[str, dict[str, str]] = {}
    for child in await machine.qmp.execute_unlogged("qom-list", {"path": _UNATTACHED}):
        driver = str(child["type"]).removeprefix("child<").removesuffix(">")
        if driver in drivers and driver not in found:
            found[driver] = await _properties(machine, f"{_UNATTACHED}/{child['name']}")
    return found


async def _properties(machine: Machine, path: str) -> dict[str, str]:
    found = {}
    for each in await machine.qmp.execute_unlogged("qom-list", {"path": path}):
        if each["type"] in _PLAIN_TYPES and each["name"] not in ("type", "parent_bus"):
            try:
                value = await machine.qmp.execute("qom-get", {"path": path, "property": each["name"]})
            except RefusedError:  # it can only be written
                continue
            found[str(each["name"])] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def parse_tree(text: str) -> list[TreeDevice]:
    """Read the devices, in the order they are told; lines of another form are passed over."""
    return [_device(bus, head, lines) for bus, head, lines in _blocks(text)]


def _blocks(text: str) -> Iterator[tuple[str, re.Match[str], list[str]]]:
    """Yield each device's bus, head and own lines."""
    buses: list[tuple[int, str]] = []
    open_: list[tuple[int, str, re.Match[str], list[str]]] = []
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip(" "))
        match = _DEVICE.match(line.strip())
        while match and open_ and open_[-1][0] >= depth:
            yield open_.pop()[1:]
        if match and match[1] == "bus":
            buses = [(at, name) for at, name in buses if at < depth]
            buses.append((depth, match[2]))
        elif match:
            above = [name for at, name in buses if at < depth]
            open_.append((depth, above[-1] if above else "", match, []))
        elif open_:
            open_[-1][3].append(line.strip())
    while open_:
        yield open_.pop()[1:]


def _device(bus: str, head: re.Match[str], lines: list[str]) -> TreeDevice:
    properties = (_PROPERTY.fullmatch(line) for line in lines)
    return TreeDevice(
        driver=head[2],
        id=head[3] or "",
        bus=bus,
        is_pci=any(_IS_PCI.match(line) for line in lines),
        properties={match[1]: match[2].strip() for match in properties if match},
    )

"""Device properties: what every device of a machine was made with, read before its first instruction.

QEMU's versioned machine types differ in such values (hw/core/machine.c, `hw_compat_*`), and `-global` sets them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.model.errors import RefusedError

if TYPE_CHECKING:
    from testbed.machine.launch import Machine
    from testbed.model.spec import Property

#: `driver.property`, as `-global` takes it
Name = str
_TREE = "/machine"
#: where a device stands, not what it is
_PLACES = ("addr", "bus", "id")


async def read_properties(machine: Machine) -> dict[Name, Property]:
    """Return the plain properties of every device: flags, numbers and texts; of a driver's only those all agree in."""
    found: dict[Name, set[Property]] = {}
    for path, driver in await _devices(machine, _TREE):
        for name, kind in machine.qemu.properties(driver).items():
            if "<" in kind or name in _PLACES:
                continue
            value = await _value(machine, path, name)
            if value is not None:
                found.setdefault(f"{driver}.{name}", set()).add(value)
    return {name: next(iter(values)) for name, values in found.items() if len(values) == 1}


async def _devices(machine: Machine, path: str) -> list[tuple[str, str]]:
    """Return the path and driver of every device below a path of QEMU's object tree."""
    found: list[tuple[str, str]] = []
    for entry in await machine.qmp.execute_unrepeated("qom-list", {"path": path}):
        kind = str(entry["type"])
        if kind.startswith("child<"):
            below, driver = f"{path}/{entry['name']}", kind.removeprefix("child<").removesuffix(">")
            found += [(below, driver)] if driver in machine.qemu.drivers else []
            found += await _devices(machine, below)
    return found


async def _value(machine: Machine, path: str, name: str) -> Property | None:
    """Return a property's value; None if it has none, or none that could be given."""
    try:
        value = await machine.qmp.execute_unrepeated("qom-get", {"path": path, "property": name})
    except RefusedError:
        return None
    # a text that is a path names another object of this one machine
    return value if isinstance(value, (bool, int, str)) and not str(value).startswith("/") else None

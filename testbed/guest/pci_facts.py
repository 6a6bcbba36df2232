"""Facts about the guest's PCI tree: functions, what their configuration space says, drivers, slots."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.model.bridge import read_bridge
from testbed.model.capabilities import extended_name, standard_name
from testbed.model.config_space import SIZES, ConfigSpace
from testbed.model.express import LINK_STATUS_AT, PortType, read_express, speed_name
from testbed.model.fact import Fact, FactKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from testbed.guest.files import Shown
    from testbed.model.bridge import Bridge
    from testbed.model.express import Express, Slot

_CONFIG = "/sys/bus/pci/devices/*/config"
_DRIVER = "/sys/bus/pci/devices/*/driver"
_SERVICE = "/sys/bus/pci_express/devices/*/uevent"
_VIRTIO = "/sys/bus/virtio/devices/*/driver"
_SLOT = "/sys/bus/pci/slots/*/"
#: what is read from the guest
PATTERNS = (_CONFIG, _DRIVER, _SERVICE, _VIRTIO, *(_SLOT + name for name in ("address", "power", "adapter", "module")))

#: Linux drivers/pci/pcie/portdrv.h: the low byte of a port service's name
_SERVICES = {0x01: "PME", 0x02: "AER", 0x04: "hot-plug", 0x08: "DPC", 0x10: "bandwidth"}
#: Slot Capabilities by bit (PCIe Base 6.3, section 7.5.3.9), in lspci's words
_SLOT_BITS = {
    0: "AttnBtn",
    1: "PwrCtrl",
    2: "MRL",
    3: "AttnInd",
    4: "PwrInd",
    6: "HotPlug",
    5: "Surprise",
    17: "Interlock",
    18: "NoCompl",
}
_LINK_ACTIVE = 1 << 13
_UNITS = {40: "T", 30: "G", 20: "M", 10: "K", 0: ""}


def pci_facts(shown: Shown, names: Mapping[str, str]) -> Iterator[Fact]:
    """Yield every fact; `names` has the QEMU ids of the addresses that have one."""
    for path in shown.matching(_CONFIG):
        data = shown.files.get(path, b"")
        if len(data) in SIZES:
            yield from _function(ConfigSpace(data), _name(path), names, shown)
    yield from _services(shown, names)
    for path in shown.matching(_VIRTIO):
        yield _fact(FactKind.DRIVER, _name(path), PurePosixPath(shown.links[path]).name, shown)
    yield from _slots(shown)


def _name(path: str) -> str:
    return PurePosixPath(path).parent.name


def _fact(kind: FactKind, subject: str, value: str, shown: Shown, *, aspect: str = "") -> Fact:
    return Fact(kind=kind, subject=subject, aspect=aspect, value=value, evidence=shown.evidence)


def _function(space: ConfigSpace, address: str, names: Mapping[str, str], shown: Shown) -> Iterator[Fact]:
    name = names.get(address, address)
    bridge = read_bridge(space)
    at = f" at {address}" if name != address else ""
    to = f", bridge to bus {bridge.secondary:02x}" if bridge else ""
    what = f"{space.vendor:04x}:{space.device:04x} class {space.u16(0x0A):04x}{at}{to}"
    yield _fact(FactKind.PCI, name, what, shown)
    if bridge:
        yield _fact(FactKind.CAPABILITY, name, _room(bridge), shown, aspect="room below")
    for aspect, value in _capabilities(space):
        yield _fact(FactKind.CAPABILITY, name, value, shown, aspect=aspect)
    driver = shown.links.get(f"/sys/bus/pci/devices/{address}/driver", "none")
    yield _fact(FactKind.DRIVER, name, PurePosixPath(driver).name, shown)


def _room(bridge: Bridge) -> str:
    """Report how many buses and addresses a bridge forwards to devices plugged there; not where."""
    buses = bridge.subordinate - bridge.secondary + 1
    windows = (f"{each.name} {_bytes(each.end - each.start + 1)}" for each in bridge.windows)
    return ", ".join((f"{buses} bus{'es' if buses > 1 else ''}", *windows))


def _bytes(size: int) -> str:
    """Return a size in the largest unit of which it is a whole number."""
    shift = next(shift for shift in (40, 30, 20, 10, 0) if size % (1 << shift) == 0)
    return f"{size >> shift}{_UNITS[shift]}"


def _capabilities(space: ConfigSpace) -> Iterator[tuple[str, str]]:
    """Yield what a configuration space says, by aspect."""
    if found := space.standard.capabilities:
        yield "capabilities", _counted(standard_name(each.id) for each in found)
    if found := space.extended.capabilities:
        yield "extended capabilities", _counted(extended_name(each.id) for each in found)
    express = read_express(space)
    if express:
        yield "port type", _type_name(express.type)
        if express.link:
            yield "link", _link(space, express)
        if express.slot:
            yield "slot number", str(express.slot.number)
            yield "slot", _slot_capabilities(express.slot)
            yield "slot state", _slot_state(express.slot)


def _counted(names: Iterable[str]) -> str:
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in Counter(names).items())


def _type_name(number: int) -> str:
    try:
        return PortType(number).name.lower().replace("_", " ")
    except ValueError:
        return f"type {number:#x}"


def _link(space: ConfigSpace, express: Express) -> str:
    """Report what a link can do, and for a port whether it is up."""
    if express.link is None:
        return ""
    can = f"{speed_name(express.link.max_speed)} x{express.link.max_width}"
    if not express.leads_down:
        return can
    up = bool(space.u16(express.offset + LINK_STATUS_AT) & _LINK_ACTIVE)
    return f"{can}, DLActive{_sign(up)}"


def _slot_capabilities(slot: Slot) -> str:
    return " ".join(f"{name}{_sign(bool(slot.capabilities >> bit & 1))}" for bit, name in _SLOT_BITS.items())


def _slot_state(slot: Slot) -> str:
    power = f"Power {'Off' if slot.power_off else 'On'}"
    return f"HPIrq{_sign(slot.hotplug_interrupt)} {power} PresDet{_sign(slot.occupied)}"


def _sign(there: bool) -> str:
    return "+" if there else "-"


def _services(shown: Shown, names: Mapping[str, str]) -> Iterator[Fact]:
    """Yield each service of each port, and who has taken it."""
    for path in shown.matching(_SERVICE):
        address, _, number = _name(path).partition(":pcie")
        bit = int(number, 16) & 0xFF
        uevent = dict(line.partition("=")[::2] for line in shown.text(path).splitlines())
        aspect = f"service {_SERVICES.get(bit, f'{bit:#x}')}"
        yield _fact(FactKind.DRIVER, names.get(address, address), uevent.get("DRIVER", "none"), shown, aspect=aspect)


def _slots(shown: Shown) -> Iterator[Fact]:
    for path in shown.matching(_SLOT + "address"):
        folder, name = str(PurePosixPath(path).parent), _name(path)
        module = PurePosixPath(shown.links.get(f"{folder}/module", "a driver")).name
        # ACPI's pci_slot gives names also to slots that nobody serves: only a served one has `power`
        served = f"{folder}/power" in shown.files
        yield _fact(FactKind.SLOT, name, f"served by {module}" if served else "served by nobody", shown)
        yield _fact(FactKind.SLOT, name, shown.text(path), shown, aspect="address")
        if f"{folder}/adapter" in shown.files:
            card = "present" if shown.text(f"{folder}/adapter") == "1" else "absent"
            yield _fact(FactKind.SLOT, name, card, shown, aspect="card")

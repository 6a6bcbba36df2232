"""The verb `plug`: a device of any kind, with what belongs to it, in a free slot or on a bus."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.bus_device import plug_on_bus
from testbed.actions.hotplug import PlugOutcome, add_parts, plug
from testbed.guest.pci import addresses
from testbed.machine.device_tree import device_ids, live_devices
from testbed.model.device_kind import KINDS, driver_kind, hot_device
from testbed.model.errors import InputError
from testbed.model.spec import ADDR_PATTERN, ID_PATTERN, Slot
from testbed.verbs.answer import witnessed
from testbed.verbs.verb import Argument, Verb
from testbed.verbs.words import misused, pairs, split_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from testbed.machine.device_tree import LiveDevice
    from testbed.machine.launch import Machine
    from testbed.model.device_kind import DeviceKind, DeviceParts
    from testbed.model.pci import Bdf
    from testbed.verbs.answer import Answer
    from testbed.verbs.bench import Bench

_USAGE = "plug DEVICE [on BUS] [id=ID] [PROPERTY=VALUE...]"


@dataclass(frozen=True, kw_only=True)
class PlugOrder:
    """What `plug` was asked for."""

    driver: str
    id: str | None
    bus: str | None
    addr: str | None
    properties: dict[str, str]


def parse_plug(text: str) -> PlugOrder:
    """Read `DEVICE [on BUS] [id=ID] [addr=ADDR] [PROPERTY=VALUE...]`; raise InputError if it is not that."""
    words = split_words(text)
    driver, rest = words[:1], words[1:]
    if rest[:1] == ["on"] and rest[1:]:
        rest = [f"bus={rest[1]}", *rest[2:]]
    properties = pairs(rest)
    if not driver or "=" in driver[0] or not all("=" in word.lstrip("=") for word in rest):
        raise misused(text, _USAGE, example="plug virtio-blk on rp3 id=disk1")
    if "driver" in properties:
        raise InputError("plug: the driver comes first", hint=f"for example: plug {properties['driver']}")
    if len(properties) < len(rest):
        raise InputError(f"plug: {text!r} sets something twice", hint="'on BUS' means bus=BUS")
    return PlugOrder(
        driver=driver[0],
        id=_fitting(properties, "id", ID_PATTERN, "an id: a letter, then letters, digits, '-', '.', '_'"),
        bus=_fitting(properties, "bus", ".+", "the name of a bus"),
        addr=_fitting(properties, "addr", ADDR_PATTERN, "a slot, or a slot and its function, such as 3 or 3.1"),
        properties=properties,
    )


def _fitting(properties: dict[str, str], key: str, pattern: str, wanted: str) -> str | None:
    """Take one of the properties; raise InputError if it is there and has another form."""
    value = properties.pop(key, None)
    if value is not None and not re.fullmatch(pattern, value):
        raise InputError(f"plug: {key}={value}: wanted {wanted}")
    return value


async def _plug(bench: Bench, order: PlugOrder) -> Answer:
    parts = await bench.without_known_backends(await _parts(bench, order))
    device = parts.device
    place = f"{device.id} on {device.bus}" if device.bus else device.id
    bench.note_request()
    guest = await bench.answering()
    if guest is None:
        await add_parts(bench.machine, parts)
        bench.note_network(parts)
        return await bench.unwatched(f"{place}: QEMU has it")
    action = plug if device.driver in bench.machine.qemu.pci_drivers else plug_on_bus
    result = await bench.while_it_lives(action(guest, parts))
    if result.outcome is not PlugOutcome.REFUSED:
        bench.note_network(parts)
        await bench.load_drivers(guest)
    ok = result.outcome is PlugOutcome.PRESENT
    return witnessed(f"{place}: {result.outcome}", result.findings, outcome=result.outcome, ok=ok)


async def _parts(bench: Bench, order: PlugOrder) -> DeviceParts:
    """Return the device with what belongs to it; raise InputError for a driver that is not there, an id that is."""
    kind = await _kind(bench.machine, order.driver)
    if order.id in await device_ids(bench.machine):
        raise InputError(f"plug: there is already a device {order.id}", hint="devices lists them")
    if kind.driver in bench.machine.qemu.pci_drivers:
        slot = await _slot(bench.machine, order)
    elif order.addr is None:
        slot = _given(order)
    else:
        raise InputError(
            f"plug: addr={order.addr}: {kind.driver} is not a PCI device", hint="'on BUS' says where it goes"
        )
    return hot_device(kind, slot, device_id=order.id or await bench.new_id(), properties=order.properties)


async def _kind(machine: Machine, name: str) -> DeviceKind:
    """Return the kind of this short name or QEMU driver; raise InputError if QEMU has no such driver."""
    drivers = machine.qemu.drivers
    known = {kind.name: kind for kind in KINDS}
    driver = known[name].driver if name in known else name
    driver = driver if driver in drivers or f"{driver}-pci" not in drivers else f"{driver}-pci"
    machine.qemu.check_driver(driver)
    return known.get(name) or driver_kind(driver, await asyncio.to_thread(machine.qemu.properties, driver))


async def _slot(machine: Machine, order: PlugOrder) -> Slot | None:
    """Return the place that is wanted, else the first free one; raise InputError if none is."""
    if order.addr is not None:
        return _given(order) or Slot(bus=machine.spec.root_bus, addr=order.addr)
    slots = [slot for slot in machine.spec.slots if order.bus in (None, slot.bus)]
    free = first_free(slots, await live_devices(machine), await addresses(machine))
    if free is None and order.bus is None:
        raise InputError("plug: no slot is free", hint="unplug a device, or name a bus: plug DEVICE on BUS")
    return free or _given(order)


def _given(order: PlugOrder) -> Slot | None:
    return Slot(bus=order.bus, addr=order.addr) if order.bus else None


def first_free(slots: Sequence[Slot], live: Sequence[LiveDevice], places: Mapping[str, Bdf]) -> Slot | None:
    """Return the first empty slot."""
    taken = {(each.bus, places[each.id].device) for each in live if each.id in places}
    return next((slot for slot in slots if (slot.bus, _number(slot)) not in taken), None)


def _number(slot: Slot) -> int:
    return int((slot.addr or "0").partition(".")[0], 16)


PLUG = Verb(
    usage=_USAGE,
    does="add a device, a PCI one in the first free slot",
    parse=parse_plug,
    do=_plug,
    arguments=(Argument.DRIVER, Argument.ON, Argument.BUS),
)

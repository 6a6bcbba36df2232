"""The verb `plug`: a device of any kind, with what belongs to it, in a free slot or on a bus."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.hotplug import PlugOutcome, add_parts, plug
from testbed.guest.drivers import load_drivers
from testbed.guest.pci import addresses
from testbed.machine.device_tree import live_devices
from testbed.model.device_kind import KINDS, driver_kind, hot_device
from testbed.model.errors import InputError
from testbed.model.spec import Slot
from testbed.verbs.answer import Answer, witnessed
from testbed.verbs.verb import Argument, Verb
from testbed.verbs.words import misused, pairs, split_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from testbed.machine.device_tree import LiveDevice
    from testbed.machine.launch import Machine
    from testbed.model.device_kind import DeviceKind
    from testbed.model.pci import Bdf
    from testbed.verbs.bench import Bench

_USAGE = "plug DEVICE [on BUS] [PROPERTY=VALUE...]"


@dataclass(frozen=True, kw_only=True)
class PlugOrder:
    """What `plug` was asked for."""

    driver: str
    bus: str | None
    properties: dict[str, str]


def parse_plug(text: str) -> PlugOrder:
    """Read `DEVICE [on BUS] [PROPERTY=VALUE...]`; raise InputError if it is not that."""
    words = split_words(text)
    driver, rest = words[:1], words[1:]
    bus = None
    if rest[:1] == ["on"]:
        bus, rest = (rest[1] if rest[1:] else ""), rest[2:]
    if not driver or bus == "" or not all("=" in word.lstrip("=") for word in rest):
        raise misused(text, _USAGE, example="plug virtio-blk on rp3")
    return PlugOrder(driver=driver[0], bus=bus, properties=pairs(rest))


async def _plug(bench: Bench, order: PlugOrder) -> Answer:
    kind = await _kind(bench.machine, order.driver)
    slot = await _slot(bench.machine, order.bus)
    parts = hot_device(kind, slot, device_id=bench.new_id(), properties=order.properties)
    place = f"{parts.device.id} on {slot.bus}"
    guest = bench.answering
    if guest is None:
        await add_parts(bench.machine, parts)
        return Answer(text=f"{place}: QEMU has it; no guest answers that could be watched")
    result = await bench.while_it_lives(plug(guest, parts))
    await bench.while_it_lives(load_drivers(guest))
    return witnessed(
        f"{place}: {result.outcome}",
        result.findings,
        outcome=result.outcome,
        ok=result.outcome is PlugOutcome.PRESENT,
    )


async def _kind(machine: Machine, name: str) -> DeviceKind:
    """Return the kind of this short name or QEMU driver; raise InputError if QEMU has no such driver."""
    drivers = machine.qemu.drivers
    known = {kind.name: kind for kind in KINDS}
    driver = known[name].driver if name in known else name
    driver = driver if driver in drivers or f"{driver}-pci" not in drivers else f"{driver}-pci"
    machine.qemu.check_driver(driver)
    return known.get(name) or driver_kind(driver, await asyncio.to_thread(machine.qemu.properties, driver))


async def _slot(machine: Machine, bus: str | None) -> Slot:
    slots = [slot for slot in machine.spec.slots if bus in (None, slot.bus)]
    free = first_free(slots, await live_devices(machine), await addresses(machine))
    if free:
        return free
    if bus is None:
        raise InputError("plug: no slot is free", hint="unplug a device, or name a bus: plug DEVICE on BUS")
    return Slot(bus=bus)


def first_free(slots: Sequence[Slot], live: Sequence[LiveDevice], places: Mapping[str, Bdf]) -> Slot | None:
    """Return the first slot in which no device stands."""
    taken = {(each.bus, places[each.id].device) for each in live if each.id in places}
    return next((slot for slot in slots if (slot.bus, _number(slot)) not in taken), None)


def _number(slot: Slot) -> int:
    return int((slot.addr or "0").partition(".")[0], 16)


PLUG = Verb(
    usage=_USAGE,
    does="add a device, in the first free slot",
    parse=parse_plug,
    do=_plug,
    arguments=(Argument.DRIVER, Argument.ON, Argument.BUS),
)

"""The verb `unplug`: ask for a device's removal and watch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.bus_device import unplug_from_bus
from testbed.actions.hotplug import DEADLINE
from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.pci import addresses
from testbed.machine.device_tree import device_ids, driver_of
from testbed.model.catalog import unknown
from testbed.verbs.answer import Answer, witnessed
from testbed.verbs.verb import Argument, Verb
from testbed.verbs.words import misused, split_words

if TYPE_CHECKING:
    from testbed.verbs.bench import Bench

_USAGE = "unplug ID"


def _parse(text: str) -> str:
    words = split_words(text)
    if len(words) != 1:
        raise misused(text, _USAGE, example="unplug dev1")
    return words[0]


async def _unplug(bench: Bench, device_id: str) -> Answer:
    known = await device_ids(bench.machine)
    if device_id not in known:
        raise unknown("device", device_id, known)
    bench.note_request()
    guest = await bench.answering()
    if guest is None:
        await bench.machine.qmp.execute("device_del", {"id": device_id})
        return await bench.unwatched(f"{device_id}: QEMU was asked")
    if device_id in await addresses(bench.machine):
        asked = unplug(guest, device_id)
    else:
        asked = unplug_from_bus(guest, device_id, await driver_of(bench.machine, device_id))
    result = await bench.while_it_lives(asked)
    return witnessed(
        f"{device_id}: {result.outcome}",
        result.findings,
        outcome=result.outcome,
        ok=result.outcome is UnplugOutcome.DELETED,
    )


UNPLUG = Verb(
    usage=_USAGE,
    does=f"ask for a device's removal and watch for up to {DEADLINE:.0f} guest seconds",
    parse=_parse,
    do=_unplug,
    arguments=(Argument.DEVICE,),
)

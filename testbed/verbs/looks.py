"""The verbs that look and change nothing: `devices`, `log`, `events`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING

from testbed.guest.pci import addresses
from testbed.machine.console import FILE as CONSOLE_FILE
from testbed.machine.device_tree import live_devices
from testbed.model.errors import BedError
from testbed.verbs.answer import Answer
from testbed.verbs.verb import Verb
from testbed.verbs.words import no_words, parse_count

if TYPE_CHECKING:
    from testbed.verbs.bench import Bench

_LOG_LINES = 20


async def _devices(bench: Bench, _: None) -> Answer:
    places = await addresses(bench.machine)
    # QEMU keeps them in a hash table
    found = sorted(await live_devices(bench.machine), key=lambda each: (str(places.get(each.id, "~")), each.id))
    rows = [("id", "driver", "bus", "address")]
    rows += [(each.id, each.driver, each.bus or "-", str(places.get(each.id, "-"))) for each in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return Answer(text="\n".join(lines))


async def _log(bench: Bench, count: int) -> Answer:
    lines = await _log_lines(bench)
    return Answer(text="\n".join(lines[len(lines) - count :] if count < len(lines) else lines))


async def _log_lines(bench: Bench) -> list[str]:
    if bench.guest is None:
        console = (bench.machine.rundir / CONSOLE_FILE).read_text("utf-8", "replace")
        return [line.strip("\r") for line in console.splitlines()]
    if guest := await bench.answering():
        # messages on their way; a guest that hangs has sent its last ones
        with contextlib.suppress(TimeoutError, BedError):
            async with asyncio.timeout(1):
                await guest.shell.catch_up()
    return [f"{record.reference} {record}" for record in bench.guest.shell.log.records]


async def _events(bench: Bench, _: None) -> Answer:
    events = bench.machine.qmp.events
    return Answer(text="\n".join(f"{each.evidence} {each.name} {json.dumps(dict(each.data))}" for each in events))


DEVICES = Verb(usage="devices", does="the devices that have an id", parse=no_words("devices"), do=_devices)
LOG = Verb(
    usage="log [N]",
    does=f"the last lines of the kernel's log ({_LOG_LINES})",
    parse=lambda text: parse_count(text, default=_LOG_LINES),
    do=_log,
)
EVENTS = Verb(usage="events", does="the QMP events so far", parse=no_words("events"), do=_events)

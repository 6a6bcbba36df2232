"""A warm start: a guest saved at its shell, and resumed in another QEMU a moment later.

What the guest had said before it was saved (its hello, kernel log and console) is kept beside the state, so that a
resumed guest's rundir tells the whole story.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from testbed.guest.guest import Guest
from testbed.guest.shell import Hello, Shell
from testbed.machine.snapshot import load, save
from testbed.machine.snapshot_store import CONSOLE, KERNEL_RECORDS, STATE
from testbed.model.errors import BedError, SnapshotError
from testbed.model.json_reader import parse_json
from testbed.model.kernel_log import LogRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.machine.launch import Machine
    from testbed.machine.snapshot_store import Snapshot, SnapshotStore

#: wall seconds in which a resumed guest must answer; 0.03 s is usual
_ANSWER_SECONDS = 20.0


async def save_guest(guest: Guest, store: SnapshotStore, key: str) -> None:
    """Save a guest that has just come to its shell, and let it go on; raise SnapshotError if it cannot be saved."""
    machine = guest.machine
    await guest.shell.catch_up()
    await machine.qmp.manage("stop")
    try:
        with store.draft() as draft:
            await save(machine, draft / STATE)
            records = "".join(json.dumps(asdict(record)) + "\n" for record in guest.shell.log.records)
            (draft / KERNEL_RECORDS).write_text(records)
            (draft / CONSOLE).write_bytes(machine.console.written())
            await asyncio.to_thread(store.keep, draft, key, {"hello": asdict(guest.hello)})
    except (OSError, BedError, TimeoutError) as error:
        raise SnapshotError(f"snapshot: saving the guest: {error}") from None
    finally:
        await machine.qmp.manage("cont")


@contextlib.asynccontextmanager
async def resume(machine: Machine, snapshot: Snapshot) -> AsyncIterator[Guest]:
    """Load a saved guest into a machine that waits for one, let it run, and yield it.

    Raises SnapshotError if the snapshot is damaged or the guest does not answer: then nothing has been asked of it yet.
    """
    async with Shell(machine) as shell:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                guest = await _load(machine, snapshot, shell)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, BedError, TimeoutError) as error:
            raise SnapshotError(f"snapshot {snapshot.key[:12]}: {error or type(error).__name__}") from None
        yield guest


async def _load(machine: Machine, found: Snapshot, shell: Shell) -> Guest:
    # whoever finds it damaged puts another in its place: state, log and console must be of one guest
    with found.pinned() as snapshot:
        return await _load_pinned(machine, snapshot, shell)


async def _load_pinned(machine: Machine, snapshot: Snapshot, shell: Shell) -> Guest:
    checked = asyncio.create_task(asyncio.to_thread(snapshot.check))
    try:
        await load(machine, snapshot.state)
    finally:
        # the guest must not run before its state is known to be what was saved
        record = await checked
    hello = Hello(**record["hello"])
    lines = (snapshot.folder / KERNEL_RECORDS).read_text().splitlines()
    shell.log.adopt(LogRecord(**parse_json(line)) for line in lines)
    machine.console.adopt((snapshot.folder / CONSOLE).read_bytes())
    await machine.qmp.execute("cont")
    await shell.clock()
    return Guest(machine=machine, shell=shell, hello=hello)

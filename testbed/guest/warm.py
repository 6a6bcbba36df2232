"""A warm start: a guest saved at its shell, and resumed in another QEMU a moment later.

What the guest had said before it was saved (its hello, kernel log and console) is kept beside the state, so that a
resumed guest's rundir tells the whole story. A machine that runs in the guest is saved with it, and goes on in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from testbed.guest.guest import Guest
from testbed.guest.level1 import Level1Host
from testbed.guest.level2 import resumed_level2
from testbed.guest.shell import Hello, Shell
from testbed.guest.user_space import UserSpace
from testbed.machine.snapshot import load, save
from testbed.machine.snapshot_store import CONSOLE, KERNEL_RECORDS, STATE, checksum
from testbed.machine.system_disk import OVERLAY
from testbed.model.errors import BedError, SnapshotError
from testbed.model.json_reader import parse_json
from testbed.model.kernel_log import LogRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from testbed.guest.level2 import Level2
    from testbed.machine.launch import Machine
    from testbed.machine.snapshot_store import Snapshot, SnapshotStore

#: wall seconds in which a resumed guest, and the machine in it, must answer; 0.03 s is usual, 0.2 s with a machine in
#: it, and 15 s were seen on a host that ran five other guests
_ANSWER_SECONDS = 60.0
#: what the files of a machine in the guest begin with
_LEVEL2 = "level2-"


async def save_guest(guest: Guest, store: SnapshotStore, key: str) -> None:
    """Save a guest that has just come to its shell, and let it go on; raise SnapshotError if it cannot be saved."""
    try:
        async with contextlib.AsyncExitStack() as stack:
            # the inner one first: what it has said is then out of the outer one
            for each in (guest.level2, guest):
                if each is not None:
                    await stack.enter_async_context(each.stopped())
            with store.draft() as draft:
                await save(guest.machine, draft / STATE)
                record = _write_words(guest, draft)
                if guest.user_space is not None:
                    # saving has written all of it, and QEMU goes on with it only when the guest does
                    await asyncio.to_thread(shutil.copyfile, guest.machine.rundir / OVERLAY, draft / OVERLAY)
                    record["user_space"] = asdict(guest.user_space)
                if guest.level2 is not None:
                    record["level2"] = _write_words(guest.level2, draft, _LEVEL2) | {"kept": _kept(guest.level2)}
                await asyncio.to_thread(store.keep, draft, key, record)
    except (OSError, BedError, TimeoutError) as error:
        raise SnapshotError(f"snapshot: saving the guest: {error}") from None


def _kept(level2: Guest) -> Mapping[str, Any]:
    host = level2.machine.host
    if not isinstance(host, Level1Host):
        raise TypeError(f"a machine on {type(host).__name__} is not in a guest")
    return host.keep(level2.machine.process)


def _write_words(guest: Guest, draft: Path, prefix: str = "") -> dict[str, Any]:
    """Write what the guest has said, and return the rest of what is to be known of it."""
    records = "".join(json.dumps(asdict(record)) + "\n" for record in guest.shell.log.records)
    (draft / f"{prefix}{KERNEL_RECORDS}").write_text(records)
    (draft / f"{prefix}{CONSOLE}").write_bytes(guest.machine.console.written())
    return {"hello": asdict(guest.hello)}


@contextlib.asynccontextmanager
async def resume(machine: Machine, snapshot: Snapshot, level2: Level2 | None = None) -> AsyncIterator[Guest]:
    """Load a saved guest into a machine that waits for one, let it run, and yield it, with the machine that ran in it.

    Raises SnapshotError if the snapshot is damaged or the guest does not answer: then nothing has been asked of it yet.
    """
    async with contextlib.AsyncExitStack() as stack:
        shell = await stack.enter_async_context(Shell(machine))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                guest = await _load(machine, snapshot, shell)
                if level2 is not None:
                    guest = await _with_level2(guest, level2, snapshot, stack)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, BedError, TimeoutError) as error:
            raise SnapshotError(f"snapshot {snapshot.key[:12]}: {error or type(error).__name__}") from None
        yield guest


async def _load(machine: Machine, found: Snapshot, shell: Shell) -> Guest:
    # if it is damaged, it is replaced as a whole: state, log and console must be of one guest
    with found.pinned() as snapshot:
        return await _load_pinned(machine, snapshot, shell)


async def _load_pinned(machine: Machine, snapshot: Snapshot, shell: Shell) -> Guest:
    checked = asyncio.create_task(asyncio.to_thread(_check, machine, snapshot))
    try:
        await load(machine, snapshot.state)
    finally:
        # the guest must not run before its state is known to be what was saved
        record = await checked
    return await _go_on(machine, shell, snapshot, record)


def _check(machine: Machine, snapshot: Snapshot) -> dict[str, Any]:
    """Return the record of a snapshot; raise ValueError or OSError if it, or the overlay of its disk, is another."""
    record = snapshot.check()
    if machine.boot.system and checksum(machine.rundir / OVERLAY) != record["checksums"][OVERLAY]:
        raise ValueError(f"{OVERLAY}: belongs to another guest")
    return record


async def _with_level2(guest: Guest, level2: Level2, snapshot: Snapshot, stack: contextlib.AsyncExitStack) -> Guest:
    record = snapshot.record["level2"]
    machine = await stack.enter_async_context(resumed_level2(guest, level2, record["kept"]))
    shell = await stack.enter_async_context(Shell(machine))
    return replace(guest, level2=await _go_on(machine, shell, snapshot, record, _LEVEL2))


async def _go_on(
    machine: Machine, shell: Shell, snapshot: Snapshot, record: Mapping[str, Any], prefix: str = ""
) -> Guest:
    """Put what the guest had said before where it belongs, and let the guest run."""
    hello = Hello(**record["hello"])
    lines = (snapshot.folder / f"{prefix}{KERNEL_RECORDS}").read_text().splitlines()
    shell.log.adopt(LogRecord(**parse_json(line)) for line in lines)
    machine.console.adopt((snapshot.folder / f"{prefix}{CONSOLE}").read_bytes())
    await machine.qmp.execute("cont")
    await shell.clock()
    said = record.get("user_space")
    user_space = UserSpace(**{**said, "failed": tuple(said["failed"])}) if said else None
    return Guest(machine=machine, shell=shell, hello=hello, user_space=user_space)

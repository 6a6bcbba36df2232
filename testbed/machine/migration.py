"""Migration: a machine goes on in a second QEMU, of the same version or another.

Both are children of the test bed on one host and share the machine's disk images. The state goes through a pair of
sockets, each end handed over QMP, since the sandbox of neither lets it reach the other. The destination is another
process with its own command line: what of the machine it lacks, or has somewhere else, it finds out as it loads.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from testbed.machine.launch import (
    Plan,
    check_spec,
    ended,
    from_outside,
    greet,
    is_hosts,
    last_words,
    start_qemu,
    watch_process,
)
from testbed.machine.qmp import Qmp
from testbed.machine.watch import Watch
from testbed.model.errors import BrokenError, ChannelError, InputError, MigrationError, QemuLostError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.host.qemu import Qemu
    from testbed.machine.launch import Machine, Started
    from testbed.model.errors import BedError
    from testbed.model.spec import MachineSpec

    _Events = asyncio.Queue[Mapping[str, Any]]

#: in the rundir: what the destination printed, and its command, word by word
LOG, ARGV = "qemu-destination.log", "argv-destination.json"
_ENDED = ("completed", "failed", "cancelled")
#: wall seconds a migration may take; 0.3 s is usual
_LIMIT = 60.0
#: wall seconds in which a QEMU that could not load the state ends, as it does unless told otherwise
_END_SECONDS = 5.0
#: bytes a second: by default QEMU sends no faster than 128 MiB
_BANDWIDTH = 1 << 40
_NAME = "migration"


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """A migration that succeeded."""

    qemu: str  #: the version of the QEMU that has the machine now
    milliseconds: int  #: of wall time, altogether
    downtime: int  #: of those, how many the guest stood still
    evidence: str

    def __str__(self) -> str:
        return f"in QEMU {self.qemu} after {self.milliseconds} ms, {self.downtime} ms of them stopped"


@dataclass(frozen=True, kw_only=True)
class _Destination:
    """The second QEMU, which waits for the state."""

    started: Started
    qmp: Qmp
    qemu: Qemu


async def migrate(machine: Machine, spec: MachineSpec, qemu: Qemu) -> Migrated:
    """Let a machine go on in another QEMU, which is given `spec`; there it is stopped, and its shell is to be moved.

    Raises:
        MigrationError: a QEMU refused; the machine is where it was, and runs if it ran.
        QemuLostError: the destination was killed from outside; the machine is where it was too.
        BrokenError: the host lacks what a second QEMU needs.
        LackingError: the destination lacks the machine type, a device or a property.
    """
    check_spec(spec, qemu)
    running = (await machine.qmp.execute_unlogged("query-status", {}))["running"]
    async with contextlib.AsyncExitStack() as stack:
        there = await _waiting(stack, machine, spec, qemu)
        try:
            await _transfer(machine, there)
        except (MigrationError, QemuLostError):
            await _go_on_here(machine, running=running)
            raise
        there_for_good = stack.pop_all()
    machine.stack.push_async_callback(there_for_good.aclose)
    told = await machine.qmp.execute_unrepeated("query-migrate")
    evidence = machine.qmp.last_reply
    await _move(machine, there)
    return Migrated(
        qemu=qemu.version.partition(" ")[0],
        milliseconds=int(told["total-time"]),
        downtime=int(told["downtime"]),
        evidence=evidence,
    )


async def _waiting(stack: contextlib.AsyncExitStack, machine: Machine, spec: MachineSpec, qemu: Qemu) -> _Destination:
    """Start the destination; raise MigrationError with its words if it refuses to start."""
    plan = Plan(
        spec=spec,
        boot=machine.boot,
        host=machine.host,
        qemu=qemu,
        accel=machine.accel,
        rundir=machine.rundir,
        warped=machine.warped,
        log=LOG,
        argv=ARGV,
    )
    # a watch of its own: its end is no end of the machine as long as the machine is not there
    qmp = await stack.enter_async_context(Qmp(machine.journal, Watch(), destination=True))
    try:
        started = await start_qemu(stack, plan, attachable=machine.attach is not None, incoming=True)
        await greet(qmp, started)
    except InputError as error:
        if is_hosts(error.message):
            raise BrokenError(f"migration: the destination: {error.message}", hint=error.hint) from None
        raise MigrationError(f"the destination: {error.message}", evidence=LOG) from None
    return _Destination(started=started, qmp=qmp, qemu=qemu)


async def _transfer(machine: Machine, there: _Destination) -> None:
    """Send the state; raise MigrationError with the words of the QEMU that did not want it."""
    here = machine.qmp
    ends = socket.socketpair()
    try:
        for qmp, end in zip((here, there.qmp), ends, strict=True):
            await qmp.execute_unrepeated(
                "migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]}
            )
            qmp.send_descriptor(end.fileno())
            await qmp.execute_unrepeated("getfd", {"fdname": _NAME})
    finally:
        # QEMU has its own: the other notices an end only if nobody else holds one
        for end in ends:
            end.close()
    await here.execute_unrepeated("migrate-set-parameters", {"max-bandwidth": _BANDWIDTH})
    with here.listen_all("MIGRATION") as sent, there.qmp.listen_all("MIGRATION") as loaded:
        await there.qmp.execute_unrepeated("migrate-incoming", {"uri": f"fd:{_NAME}"})
        try:
            await here.execute_unrepeated("migrate", {"uri": f"fd:{_NAME}"})
        except RefusedError as refusal:
            raise MigrationError(f"the source: {refusal.description}", evidence=refusal.evidence) from None
        await _loaded(machine, there, sent, loaded)


async def _loaded(
    machine: Machine,
    there: _Destination,
    sent: asyncio.Queue[Mapping[str, Any]],
    loaded: asyncio.Queue[Mapping[str, Any]],
) -> None:
    """Wait until the destination has the state and the source has taken notice of that."""
    waits = {
        asyncio.create_task(_end_of(sent)): "the source",
        asyncio.create_task(_end_of(loaded)): "the destination",
        asyncio.create_task(there.started.process.wait()): "the destination",
    }
    try:
        done: set[asyncio.Task[Any]] = set()
        async with asyncio.timeout(_LIMIT):
            while not {*list(waits)[:2]} <= done:
                more, _ = await machine.watch.during(
                    asyncio.wait(waits.keys() - done, return_when=asyncio.FIRST_COMPLETED)
                )
                done |= more
                wrong = next((task for task in more if task.result() != "completed"), None)
                if wrong:
                    raise await _refusal(there, waits[wrong])
    except TimeoutError:
        raise ChannelError(f"migration: neither QEMU has finished it within {_LIMIT:.0f} s") from None
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _end_of(events: _Events) -> str:
    while (status := str((await events.get())["status"])) not in _ENDED:
        pass
    return status


async def _refusal(there: _Destination, side: str) -> BedError:
    """Return why it failed: in the words of the destination, which ends with them, if it has any."""
    with contextlib.suppress(TimeoutError):
        ending = asyncio.ensure_future(there.started.process.wait())
        status = await asyncio.wait_for(asyncio.shield(ending), _END_SECONDS)
        if from_outside(status):
            return QemuLostError(f"migration: the destination was killed from outside ({ended(status)})")
    if words := last_words(there.started.log):
        return MigrationError(f"the destination: {words}", evidence=LOG)
    return MigrationError(f"{side} reports that it failed, and says no more", evidence="qmp.jsonl")


async def _go_on_here(machine: Machine, *, running: bool) -> None:
    """Let the machine run where it is: a source that had sent everything stands still, and has to be told."""
    async with asyncio.timeout(_LIMIT):  # a TimeoutError is `broken`: nobody knows where the machine is
        while (status := (await machine.qmp.execute_unlogged("query-status", {}))["status"]) == "finish-migrate":
            pass
    if running and status != "running":
        await machine.qmp.execute_unrepeated("cont")


async def _move(machine: Machine, there: _Destination) -> None:
    """Make the destination the machine's QEMU, and end the source."""
    machine.origin = machine.origin or replace(machine)
    started, source = there.started, machine.process
    machine.process, machine.qemu, machine.argv = started.process, there.qemu, started.argv
    machine.attach, machine.shell = started.attach, started.peers["shell"]
    await source.end()
    await machine.qmp.take_over(there.qmp)
    await machine.console.move(started.peers["console"])
    warden = asyncio.create_task(watch_process(machine, started))
    machine.stack.callback(warden.cancel)

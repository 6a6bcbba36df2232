"""Revive a VM that QEMU has stopped: watch its QMP socket, and reset and continue it on a STOP for one of some reasons.

QEMU refuses `cont` in the run state internal-error until the machine is reset (softmmu/runstate.c,
runstate_needs_reset(), 7.2 to 10.0).
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from qemu.qmp import EventListener, ExecuteError, QMPClient, QMPError, Runstate

from testbed.model.errors import BrokenError, InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

#: QEMU's run state after vfio-pci reported an error of a device (hw/vfio/pci.c, vfio_err_notifier_handler())
INTERNAL_ERROR = "internal-error"
#: those in which a VM has stopped and may be reset (qapi/run-state.json, RunState)
STATES = ("guest-panicked", INTERNAL_ERROR, "io-error", "paused", "watchdog")
#: wall seconds in which QEMU greets; while it serves somebody else it greets nobody
_GREETING_SECONDS = 10.0


class Execute(Protocol):
    """Run a QMP command and return its value."""

    async def __call__(self, command: str, arguments: Any = None, /) -> Any:
        """Run it."""


async def revive(execute: Execute, wanted: Collection[str]) -> str:
    """Reset and continue a VM if its run state is one of those wanted; return that state."""
    status = str((await execute("query-status"))["status"])
    if status in wanted:
        await execute("system_reset")
        await execute("cont")
    return status


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A VM that was found stopped."""

    status: str  #: QEMU's run state
    revived: int  #: how often it was revived so far, this time included; 0 if it was left alone


async def stops(address: str | tuple[str, int], *, wanted: Collection[str], most: int) -> AsyncIterator[Stop]:
    """Watch a QEMU until it ends; yield each stop, revived if its run state is one of those wanted.

    Raises:
        InputError: no QMP server answers at the address.
        BrokenError: it has stopped once more than `most` times.
    """
    client, listener = QMPClient("testbed revive"), EventListener("STOP")
    client.register_listener(listener)
    try:
        async with asyncio.timeout(_GREETING_SECONDS):
            await client.connect(address)
    except (QMPError, TimeoutError) as error:
        hint = "start QEMU with -qmp unix:PATH,server=on,wait=off; such a socket serves one client at a time"
        why = str(error) or f"no greeting within {_GREETING_SECONDS:.0f} s"
        raise InputError(f"QMP socket {_words(address)}: {why}", hint=hint) from None
    try:
        async for stop in _stops(client, listener, wanted, most):
            yield stop
    finally:
        with contextlib.suppress(QMPError, EOFError, OSError):  # QEMU may be what has ended
            await client.disconnect()


async def _stops(client: QMPClient, listener: EventListener, wanted: Collection[str], most: int) -> AsyncIterator[Stop]:
    revived = 0
    # one that had stopped before anybody watched tells of it no more
    state: Any = await client.execute("query-status")
    running = bool(state["running"])
    while not running or await _stopped(client, listener):
        running = True
        try:
            # a stop for another reason is no revival too many
            status = await revive(client.execute, wanted if revived < most else ())
        except ExecuteError as error:
            raise BrokenError(f"revive: QEMU refused: {error}", hint="ask it why it stopped: query-status") from None
        except QMPError:
            if client.runstate is Runstate.RUNNING:
                raise
            return
        if status in wanted and revived == most:
            raise BrokenError(f"revive: stopped again after {most} resets", hint="find out why first, or raise --most")
        revived += status in wanted
        if status != "running":
            yield Stop(status=status, revived=revived if status in wanted else 0)


async def _stopped(client: QMPClient, listener: EventListener) -> bool:
    """Wait for the VM's next stop; return False if QEMU ends first."""
    stop, end = asyncio.ensure_future(listener.get()), asyncio.ensure_future(client.runstate_changed())
    try:
        await asyncio.wait({stop, end}, return_when=asyncio.FIRST_COMPLETED)
        return stop.done()
    finally:
        stop.cancel()
        end.cancel()


def _words(address: str | tuple[str, int]) -> str:
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"

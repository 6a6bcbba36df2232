"""Suspend: a guest that goes to sleep (ACPI S3, suspend to RAM), and is woken from outside."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.files import show
from testbed.machine.qmp import Event
from testbed.model.errors import GuestCrashedError, UnsupportedError
from testbed.model.kernel_log import Crash

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from testbed.guest.guest import Guest
    from testbed.guest.shell import Command, Result

STATE, KIND = "/sys/power/state", "/sys/power/mem_sleep"
#: the write returns when the guest is awake again
_SLEEP = f"echo mem > {STATE}"
#: wall seconds in which a woken guest answers; 1 s is usual
PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class Asleep:
    """A guest that sleeps."""

    command: Command  #: the write that put it to sleep
    event: Event  #: QEMU's word for it


@dataclass(frozen=True, kw_only=True)
class Awake:
    """What came of a wake-up: one of the three."""

    result: Result | None = None  #: the end of the write that put it to sleep
    reset: Event | None = None  #: QEMU's word for a guest that reset instead
    crash: GuestCrashedError | None = None  #: a panic, or silence


async def choose_deep_sleep(guest: Guest) -> None:
    """Let the guest's `mem` mean suspend to RAM; raise UnsupportedError where the machine or the kernel has none."""
    shown = await show(guest, STATE, KIND)
    kinds = shown.text(KIND).replace("[", "").replace("]", "").split()
    if "mem" not in shown.text(STATE).split() or "deep" not in kinds:
        offers = ", ".join(kinds) or shown.text(STATE) or "nothing"
        raise UnsupportedError(
            f"the guest has no suspend to RAM: it offers {offers}",
            hint="the machine needs ACPI (-p acpi=on) with S3 in it (not: -p globals=ICH9-LPC.disable_s3=1)",
        )
    await guest.act(f"echo deep > {KIND}")


async def suspend(guest: Guest) -> Asleep | Result:
    """Let the guest suspend to RAM; return the end of its attempt where it does not go to sleep."""
    guest.machine.journal.step("guest", f"({_SLEEP}) > /tmp/suspend 2>&1 &")
    guest.machine.journal.step("asleep", "")
    with guest.machine.qmp.listen("SUSPEND") as slept:
        command = await guest.shell.start(_SLEEP)
        first = await _first(slept.wait(), command.wait())
    return Asleep(command=command, event=first) if isinstance(first, Event) else first


async def wake(guest: Guest, asleep: Asleep) -> Awake:
    """Wake the guest as a power button would, and wait until it answers, resets or stays silent."""
    machine = guest.machine
    # it is judged, so the machine must still answer
    machine.watch.tolerate(Crash.RESET)
    with machine.qmp.listen("SHUTDOWN", guest=True) as ended, machine.qmp.listen("WAKEUP") as woken:
        await machine.qmp.execute("system_wakeup")
        await woken.wait()
        try:
            first = await _first(ended.wait(), asleep.command.wait(patience=PATIENCE))
        except GuestCrashedError as crash:
            return Awake(crash=crash)
    return Awake(reset=first) if isinstance(first, Event) else Awake(result=first)


async def _first(*awaitables: Awaitable[Event | Result]) -> Event | Result:
    """Return what comes first, or raise it."""
    tasks = [asyncio.ensure_future(each) for each in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

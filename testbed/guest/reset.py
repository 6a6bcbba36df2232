"""Reset: the machine is reset from outside, and its guest boots anew in the same QEMU.

SeaBIOS, which finds that it has run before, resets the machine several times more before it begins (src/resume.c: it
wants its own memory as it was). Only what is asked after that lasts: a reset clears a slot's registers, and ejects what
ACPI was asked to.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from testbed.guest.guest import BOOT_LIMIT
from testbed.model.errors import BootError, BrokenError, RefusedError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from testbed.guest.guest import Guest
    from testbed.machine.launch import Machine
    from testbed.machine.qmp import Event

    Ask = Callable[[], Awaitable[object]]

#: what `query-pci` says of a BAR that decodes nothing (PCI_BAR_UNMAPPED)
_UNMAPPED = (-1, (1 << 64) - 1)
#: wall seconds that a firmware is given to finish when nobody wants the reset any more
_GIVEN_UP_SECONDS = 20.0


@contextlib.asynccontextmanager
async def reset(guest: Guest, *, ask: Ask | None = None) -> AsyncIterator[None]:
    """Reset the machine, and on leaving wait for the guest's shell; in between, the firmware has just set up PCI.

    `ask` asks QEMU for the reset, where `system_reset` alone is not what is meant.
    Drivers that were loaded must be loaded again. Raises BootError if the guest does not come back.
    """
    machine = guest.machine
    guest.shell.restart()
    try:
        async with asyncio.timeout(BOOT_LIMIT):
            await _to_the_end(_until_set_up(machine, ask))
            if guest.shell.greeted:
                raise BrokenError("reset: the guest had booted before the request could be made")
            yield
            machine.journal.step("boot", "")
            await guest.shell.hello()
    except TimeoutError:
        raise BootError(f"reset: the guest's shell did not answer within {BOOT_LIMIT:.0f} s") from None


async def _until_set_up(machine: Machine, ask: Ask | None) -> None:
    """Reset the machine and wait until the firmware has set up PCI; a reset that comes later ends the machine again."""
    try:
        await reset_unwatched(machine, ask=ask)
        while not await _is_set_up(machine):
            pass
    finally:
        await _on_reboot(machine, "shutdown")


async def _to_the_end(doing: Coroutine[Any, Any, None]) -> None:
    """Wait for what must not be left half done: whoever gives it up (Ctrl-C) still waits for its end, for a while.

    Until the firmware is done its own resets must go through, and after that the guest's must not.
    """
    task = asyncio.ensure_future(doing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GIVEN_UP_SECONDS):
                await task
        raise


async def reset_unwatched(machine: Machine, *, ask: Ask | None = None) -> Event:
    """Reset the machine and let it go on, whatever boots then; return the event that tells of it.

    From now on a reset that the guest asks for is one, too: the machine was launched so that it stops there.
    """
    await _on_reboot(machine, "reset")
    with machine.qmp.listen("RESET", guest=False) as came:
        await (ask() if ask else machine.qmp.execute("system_reset"))
        event = await came.wait()
    # one that had stopped, such as in the run state internal-error, waits
    if not (await machine.qmp.execute_unlogged("query-status", {}))["running"]:
        await machine.qmp.execute("cont")
    return event


async def _on_reboot(machine: Machine, action: str) -> None:
    """Say what is to happen when the guest reboots; raise UnsupportedError for a QEMU that knows only what it was told.

    Such a one (before 6.0) takes every reset for the end of the guest, as it was started with -no-reboot.
    """
    try:
        await machine.qmp.execute("set-action", {"reboot": action})
    except RefusedError as refusal:
        if "has not been found" not in refusal.description:
            raise
        version = machine.qemu.version.partition(" ")[0]
        raise UnsupportedError(
            f"QEMU {version} has no QMP command set-action: a machine started to report resets cannot be reset",
            hint="pass a newer one with --qemu",
        ) from None


async def _is_set_up(machine: Machine) -> bool:
    """Return whether the firmware has given addresses to the devices on the root bus."""
    root: list[dict[str, Any]] = (await machine.qmp.execute_unlogged("query-pci", {}))[0]["devices"]
    regions = [region for device in root for region in device["regions"]]
    return bool(regions) and all(region["address"] not in _UNMAPPED for region in regions)

"""The guest that a command boots for itself: drivers loaded, its machine ended afterwards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from testbed.cli.terminal import show_progress
from testbed.guest.drivers import load_drivers
from testbed.guest.guest import boot
from testbed.host.slots import core_count, guest_slot
from testbed.machine.launch import launch
from testbed.machine.reproduce import write_reproduction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from testbed.campaign.trial_run import Prepared
    from testbed.guest.guest import Guest
    from testbed.host.host import LocalHost


@contextlib.asynccontextmanager
async def booted_guest(ready: Prepared, host: LocalHost, folder: Path, *, title: str) -> AsyncIterator[Guest]:
    """Boot a prepared cell's machine; it keeps a slot while it boots, since an idle guest takes no core."""
    async with contextlib.AsyncExitStack() as stack:
        async with guest_slot(count=core_count(), on_wait=lambda: show_progress("waiting for a guest slot")):
            show_progress(f"booting {ready.template.name}: QEMU {ready.qemu.version}, {ready.accel}")
            machine = await stack.enter_async_context(
                launch(ready.spec, ready.boot, host=host, qemu=ready.qemu, accel=ready.accel, rundir=folder)
            )
            stack.callback(write_reproduction, machine, title=title)
            guest = await stack.enter_async_context(boot(machine))
            await load_drivers(guest)
        yield guest

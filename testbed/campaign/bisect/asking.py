"""Ask a QEMU about a cell's machine: started, looked at, and ended before its first instruction."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from testbed.campaign.trial_run import prepare
from testbed.host.claim import scratch_folder
from testbed.host.host import LocalHost
from testbed.machine.launch import launch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from testbed.machine.launch import Machine
    from testbed.model.outcome import Cell


@contextlib.asynccontextmanager
async def asked(cell: Cell, *, progress: Callable[[str], None]) -> AsyncIterator[Machine]:
    """Yield the paused machine of a cell; raise InputError as `prepare` and `launch` do."""
    ready = prepare(cell, progress=progress)
    with scratch_folder("ask") as folder:
        async with (
            LocalHost() as host,
            launch(ready.spec, ready.boot, host=host, qemu=ready.qemu, accel=ready.accel, rundir=folder) as machine,
        ):
            yield machine

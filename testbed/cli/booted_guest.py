"""The machine that a command boots for itself, without a scenario, and the guest in it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from testbed.campaign.trial_run import prepare
from testbed.cli.options import given_parameters, known_accel, known_qemu
from testbed.cli.terminal import show_progress
from testbed.guest.drivers import load_drivers
from testbed.guest.guest import boot
from testbed.host.slots import core_count, guest_slot
from testbed.machine.launch import launch
from testbed.machine.reproduce import write_reproduction
from testbed.model.outcome import Cell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from testbed.campaign.trial_run import Prepared
    from testbed.guest.guest import Guest
    from testbed.host.host import LocalHost


#: a scenario is part of every cell; this one is not run
_ANY = "disk-present"


def prepared_machine(
    machine: str, *, param: Sequence[str] | None, cmdline: str, image: str, qemu: str, accel: str
) -> Prepared:
    """Return a machine made ready to boot, from a command's options; raise InputError for a wrong one."""
    cell = Cell(
        scenario=_ANY,
        machine=machine,
        parameters=given_parameters(machine, param or []),
        cmdline=cmdline,
        image=image,
        qemu=known_qemu(qemu),
        accel=known_accel(accel),
    )
    return prepare(cell, progress=show_progress)


@contextlib.asynccontextmanager
async def booted_guest(
    ready: Prepared, host: LocalHost, folder: Path, *, title: str, drivers: bool = True
) -> AsyncIterator[Guest]:
    """Boot a machine, with the drivers of its devices; it keeps a slot while it boots: an idle guest takes no core."""
    (folder / "machine.yaml").write_text(ready.machine)
    async with contextlib.AsyncExitStack() as stack:
        async with guest_slot(count=core_count(), on_wait=lambda: show_progress("waiting for a guest slot")):
            show_progress(f"booting {ready.template.name}: QEMU {ready.qemu.version}, {ready.accel}")
            machine = await stack.enter_async_context(
                launch(ready.spec, ready.boot, host=host, qemu=ready.qemu, accel=ready.accel, rundir=folder)
            )
            stack.callback(write_reproduction, machine, title=title)
            guest = await stack.enter_async_context(boot(machine))
            if drivers:
                await load_drivers(guest)
        yield guest

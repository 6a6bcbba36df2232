"""`testbed pci lint --machine`: the functions of a machine that is booted for it; files need nothing of this."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.campaign.prepared import booted, prepare
from testbed.cli.frame import CommandFrame
from testbed.cli.terminal import show_progress
from testbed.guest.config_spaces import read_functions
from testbed.host.host import LocalHost

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.lint.function import Function
    from testbed.model.setup import Setup


def functions_of(setup: Setup, rundir: Path) -> tuple[Function, ...]:
    """Boot a machine and return the functions that its guest has; raise as `prepare` does."""
    prepared = prepare(setup, progress=show_progress)
    title = f"testbed pci lint --machine {setup.machine}"

    async def look(folder: Path) -> tuple[Function, ...]:
        async with LocalHost() as host, booted(prepared, host, folder, title=title, progress=show_progress) as guest:
            return await read_functions(guest)

    with CommandFrame(rundir, stdout_for_programs=True) as frame:
        return frame.run(look(frame.folder))

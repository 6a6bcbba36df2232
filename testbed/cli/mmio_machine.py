"""The guests of `testbed mmio probe` and `testbed mmio survey`: booted for it; `mmio explain` needs nothing of this."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from testbed.actions.mmio import enable, probe
from testbed.actions.mmio_survey import survey
from testbed.campaign.prepared import booted, prepare
from testbed.cli.frame import CommandFrame
from testbed.cli.terminal import show_progress
from testbed.guest.drivers import load_drivers
from testbed.guest.pci import address_of, addresses
from testbed.host.host import LocalHost
from testbed.model.catalog import unknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from testbed.actions.attempt import Probed
    from testbed.actions.mmio_survey import SurveyRow
    from testbed.actions.register import Access
    from testbed.campaign.prepared import Prepared
    from testbed.guest.guest import Guest
    from testbed.model.setup import Setup
    from testbed.model.stall import Stall

T = TypeVar("T")


def probed(setup: Setup, rundir: Path, *, device: str, access: Access, stall: Stall, drivers: bool) -> Probed:
    """Boot a machine and access a register of a device; raise InputError if there is no such device."""

    async def ask(guest: Guest) -> Probed:
        known = await addresses(guest.machine)
        if device not in known:
            raise unknown("device", device, known)
        address = await address_of(guest.machine, device)
        if drivers:
            await load_drivers(guest)
        else:
            await enable(guest, address)
        return await probe(guest, address, access, stall=stall)

    return _in_guest(setup, rundir, ask)


def surveyed(setup: Setup, rundir: Path, *, offsets: Sequence[int], count: int, drivers: bool) -> list[SurveyRow]:
    """Boot a machine and read every BAR of its functions at these offsets, each register `count` times."""

    async def ask(guest: Guest) -> list[SurveyRow]:
        if drivers:
            await load_drivers(guest)
        return await survey(guest, offsets=offsets, count=count, progress=show_progress)

    return _in_guest(setup, rundir, ask)


def _in_guest(setup: Setup, base: Path, ask: Callable[[Guest], Awaitable[T]]) -> T:
    """Boot the machine, ask its guest and end it."""
    prepared = prepare(setup, progress=show_progress)
    with CommandFrame(base, stdout_for_programs=True) as frame:
        return frame.run(_reply(prepared, frame.folder, ask))


async def _reply(prepared: Prepared, folder: Path, ask: Callable[[Guest], Awaitable[T]]) -> T:
    title = f"testbed mmio on {prepared.template.name}"
    async with (
        LocalHost() as host,
        booted(prepared, host, folder, title=title, progress=show_progress, drivers=False) as guest,
    ):
        return await ask(guest)

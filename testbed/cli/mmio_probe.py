"""`testbed mmio probe` and `testbed mmio survey`: device registers of a machine, accessed in its guest."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from testbed.actions.attempt import Probed
from testbed.actions.mmio import enable, probe
from testbed.actions.mmio_survey import SurveyRow, survey
from testbed.actions.register import MOST_ACCESSES, Access, Route, check_access
from testbed.campaign.prepared import Prepared, booted, prepare
from testbed.cli.frame import CommandFrame
from testbed.cli.options import RUNS, AsJson, MachineName, Rundir, SetupOptions, spliced
from testbed.cli.terminal import out, plain, show_progress
from testbed.guest.drivers import load_drivers
from testbed.guest.guest import Guest
from testbed.guest.pci import address_of, addresses
from testbed.host.host import LocalHost
from testbed.model.catalog import unknown
from testbed.model.errors import InputError
from testbed.model.stall import Stall, parse_stall
from testbed.report.mmio import print_probed, print_survey, probed_value, survey_value

T = TypeVar("T")
Drivers = Annotated[bool, typer.Option("--drivers", help="Load the drivers of all devices first.")]


@dataclass(frozen=True, kw_only=True)
class AccessOptions:
    """One register, and how it is accessed."""

    device: Annotated[str, typer.Option("--device", "-d", help="Id of the device.")] = "dev1"
    bar: Annotated[
        int | None, typer.Option(min=0, max=5, help="BAR number; omit it for --route config or a bare port.")
    ] = None
    offset: Annotated[str, typer.Option(help="Offset in the BAR, e.g. 0x14.")] = "0"
    width: Annotated[int, typer.Option(help="Bytes of an access: 1, 2, 4 or 8.")] = 4
    write: Annotated[str, typer.Option(help="Write this value; otherwise read.", show_default=False)] = ""
    route: Annotated[
        str, typer.Option(help="user: a process on the mapped BAR; kernel, devmem: the kernel; pio: ports; config.")
    ] = "user"
    count: Annotated[int, typer.Option(min=1, max=MOST_ACCESSES, help="Number of accesses.")] = 1
    stall: Annotated[
        str, typer.Option(help="Model a stall: smap-erratum (on -p cpu=EPYC), always, after:N, for:SECONDS.")
    ] = "off"

    def access(self) -> Access:
        """Return the access; raise InputError for one that cannot be made."""
        access = Access(
            route=_route(self.route),
            bar=self.bar,
            offset=_number("--offset", self.offset),
            width=self.width,
            value=_number("--write", self.write) if self.write else None,
            count=self.count,
        )
        check_access(access)
        return access


@spliced
def mmio_probe(
    machine: MachineName,
    options: AccessOptions,
    setup: SetupOptions,
    drivers: Drivers = False,
    as_json: AsJson = False,
    rundir: Rundir = RUNS,
) -> None:
    """Boot a machine and access one device register, as a process or the kernel; report the time and what QEMU saw."""
    access, model = options.access(), parse_stall(options.stall)
    prepared = prepare(setup.setup(machine), progress=show_progress)

    async def ask(guest: Guest) -> Probed:
        return await _probe(guest, options.device, access, model, drivers=drivers)

    probed = _in_guest(prepared, rundir, ask)
    if as_json:
        plain(json.dumps(probed_value(probed), indent=1))
    else:
        print_probed(probed, f"{machine} {options.device}", out)
    raise typer.Exit(0 if probed.completed else 1)


@spliced
def mmio_survey(
    machine: MachineName,
    setup: SetupOptions,
    offset: Annotated[
        list[str] | None, typer.Option(help="Offset to read in every BAR; may be repeated.", show_default="0")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=MOST_ACCESSES, help="How many times to read each register.")] = 100,
    drivers: Drivers = False,
    as_json: AsJson = False,
    rundir: Rundir = RUNS,
) -> None:
    """Boot a machine and read every BAR of every function in every width, from a process and from the kernel."""
    offsets = [_number("--offset", text) for text in offset or ["0"]]
    prepared = prepare(setup.setup(machine), progress=show_progress)

    async def ask(guest: Guest) -> list[SurveyRow]:
        if drivers:
            await load_drivers(guest)
        return await survey(guest, offsets=offsets, count=count, progress=show_progress)

    rows = _in_guest(prepared, rundir, ask)
    if as_json:
        plain(json.dumps(survey_value(rows), indent=1))
    else:
        print_survey(rows, out)


async def _probe(guest: Guest, device: str, access: Access, model: Stall, *, drivers: bool) -> Probed:
    known = await addresses(guest.machine)
    if device not in known:
        raise unknown("device", device, known)
    address = await address_of(guest.machine, device)
    if drivers:
        await load_drivers(guest)
    else:
        await enable(guest, address)
    return await probe(guest, address, access, stall=model)


def _in_guest(prepared: Prepared, base: Path, ask: Callable[[Guest], Awaitable[T]]) -> T:
    """Boot the machine, ask its guest and end it."""
    with CommandFrame(base, stdout_for_programs=True) as frame:
        return frame.run(_reply(prepared, frame.folder, ask))


async def _reply(prepared: Prepared, folder: Path, ask: Callable[[Guest], Awaitable[T]]) -> T:
    title = f"testbed mmio on {prepared.template.name}"
    async with (
        LocalHost() as host,
        booted(prepared, host, folder, title=title, progress=show_progress, drivers=False) as guest,
    ):
        return await ask(guest)


def _route(name: str) -> Route:
    if name not in tuple(Route):
        raise unknown("--route", name, tuple(Route))
    return Route(name)


def _number(option: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise InputError(f"{option} {text!r}: is not a number", hint=f"for example: {option} 0x14") from None

"""`testbed mmio probe` and `testbed mmio survey`: device registers of a machine, accessed in its guest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

import typer

from testbed.actions.register import MOST_ACCESSES, Access, Route, check_access
from testbed.cli.options import RUNS, AsJson, MachineName, Rundir, SetupOptions, spliced
from testbed.cli.terminal import out, plain
from testbed.model.catalog import unknown
from testbed.model.errors import InputError
from testbed.model.stall import parse_stall
from testbed.report.mmio import print_probed, print_survey, probed_value, survey_value

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
    # brings all that boots a guest
    from testbed.cli.mmio_machine import probed  # noqa: PLC0415

    seen = probed(setup.setup(machine), rundir, device=options.device, access=access, stall=model, drivers=drivers)
    if as_json:
        plain(json.dumps(probed_value(seen), indent=1))
    else:
        print_probed(seen, f"{machine} {options.device}", out)
    raise typer.Exit(0 if seen.completed else 1)


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
    from testbed.cli.mmio_machine import surveyed  # noqa: PLC0415

    rows = surveyed(setup.setup(machine), rundir, offsets=offsets, count=count, drivers=drivers)
    if as_json:
        plain(json.dumps(survey_value(rows), indent=1))
    else:
        print_survey(rows, out)


def _route(name: str) -> Route:
    if name not in tuple(Route):
        raise unknown("--route", name, tuple(Route))
    return Route(name)


def _number(option: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise InputError(f"{option} {text!r}: is not a number", hint=f"for example: {option} 0x14") from None

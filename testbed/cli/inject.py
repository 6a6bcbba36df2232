"""`testbed inject`: a PCIe error in a machine of one's choice, and the proof of what became of it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.actions.aer import inject as inject_error
from testbed.actions.early import inject_early
from testbed.actions.injection import Route
from testbed.actions.sriov import enable_at_least
from testbed.actions.volley import Volley, inject_at_once
from testbed.campaign.prepared import booted, prepare
from testbed.cli.frame import CommandFrame
from testbed.cli.options import RUNS, AsJson, MachineName, Rundir, SetupOptions, spliced
from testbed.cli.terminal import out, plain, show_progress
from testbed.guest.drivers import load_drivers
from testbed.host.host import LocalHost
from testbed.model.aer import ErrorSeverity
from testbed.model.aer_name import ERRORS, find_record
from testbed.model.catalog import unknown
from testbed.model.errors import InputError
from testbed.model.recovery import RecoveryState
from testbed.report.injection import SCHEMA, injection_json, print_findings, print_injection, print_injections
from testbed.verbs.words import parse_header, split_words

if TYPE_CHECKING:
    from testbed.actions.early import EarlyError
    from testbed.actions.injection import Header, Injection
    from testbed.campaign.prepared import Prepared
    from testbed.guest.guest import Guest
    from testbed.machine.launch import Machine

_COR = ErrorSeverity.CORRECTABLE
#: more injections than this are shown as a table
_SHOWN_WHOLE = 3


@dataclass(frozen=True, kw_only=True)
class ErrorOptions:
    """The errors, and into what."""

    device: Annotated[
        list[str],
        typer.Option(help="A device's id (see testbed render MACHINE). Repeat it to inject into several at once."),
    ]
    error: Annotated[
        list[str] | None,
        typer.Option(
            help="QEMU's name, the kernel's, or a status bit such as 0x8000. RCVR+BAD_TLP puts several in one record.",
            show_default=False,
        ),
    ] = None
    count: Annotated[
        int, typer.Option(help="Number of injections; without --every, all at the same moment.", min=1, max=1000)
    ] = 1
    every: Annotated[
        float | None, typer.Option("--every", help="Guest seconds between injections.", min=0.0, show_default=False)
    ] = None
    all_errors: Annotated[bool, typer.Option("--all", help="Inject every known error, one after another.")] = False
    route: Annotated[Route, typer.Option(help="Which injector; auto: QEMU's, if its errors reach the guest.")] = (
        Route.AUTO
    )
    early: Annotated[
        bool,
        typer.Option(
            "--early", help="Inject before the guest boots, when nothing handles AER yet; QEMU's injector only."
        ),
    ] = False
    vf: Annotated[
        int | None, typer.Option(help="Inject into this VF of the device, counted from 0.", show_default=False)
    ] = None
    severity: Annotated[
        ErrorSeverity | None,
        typer.Option(help="The severity; the device's severity register is set to match.", show_default=False),
    ] = None
    header: Annotated[str, typer.Option(help="The TLP's header, up to four words: '0 1 2 3'.")] = ""
    prefix: Annotated[str, typer.Option(help="The TLP's prefixes, up to four words; QEMU's injector only.")] = ""

    def wishes(self) -> list[_Wish]:
        """Return each error that is to be injected, checked."""
        wishes = [
            _Wish(
                devices=tuple(self.device),
                error=name,
                count=1 if self.every is not None else self.count,
                route=self.route,
                vf=self.vf,
                severity=self.severity,
                header=parse_header(split_words(self.header)),
                prefix=parse_header(split_words(self.prefix)),
            )
            for name in _names(self.error or [], all_errors=self.all_errors, severity=self.severity)
        ]
        for wish in wishes:
            wish.check()
        if self.early:
            self._check_early()
        if self.every is None:
            return wishes
        later = [replace(wish, pause=self.every) for wish in wishes] * self.count
        return [*wishes[:1], *later[1:]]

    def _check_early(self) -> None:
        """Raise InputError for what only a guest that runs can have."""
        given = {
            "--vf": self.vf is not None,
            "--severity": self.severity is not None,
            "--header": bool(self.header),
            "--prefix": bool(self.prefix),
            "--count": self.count > 1,
            "--every": self.every is not None,
            "--route guest": self.route is Route.GUEST,
        }
        if wrong := next((name for name, is_given in given.items() if is_given), ""):
            raise InputError(f"inject: {wrong} needs a running guest", hint="drop either it or --early")


@spliced
def inject(
    machine: MachineName, errors: ErrorOptions, setup: SetupOptions, rundir: Rundir = RUNS, as_json: AsJson = False
) -> None:
    """Boot a machine, inject PCIe errors into devices, and report what became of each.

    Injected: the guest announced it. Masked, not reported, refused: with the register or the words that say so. Exits
    with 0 if all were injected, else with 1.
    """
    wishes = errors.wishes()
    prepared = prepare(setup.setup(machine), progress=show_progress)
    ids = [each.id for each in prepared.spec.devices]
    for device in errors.device:
        if device not in ids:
            raise unknown("device", device, ids)
    inject_them = _inject_early if errors.early else _inject
    with CommandFrame(rundir, stdout_for_programs=as_json) as frame:
        volleys = frame.run(inject_them(prepared, frame.folder, wishes))
        _show(volleys, as_json=as_json)
    raise typer.Exit(0 if all(each.heard and each.told for each in volleys) else 1)


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """One record that was asked for: of one device, or of several at once."""

    devices: tuple[str, ...]
    error: str
    count: int
    route: Route
    vf: int | None
    severity: ErrorSeverity | None
    header: Header | None
    prefix: Header | None
    pause: float = 0.0  #: guest seconds before it

    @property
    def several(self) -> bool:
        return len(self.devices) > 1 or self.count > 1

    def check(self) -> None:
        """Raise InputError for a device that is given twice, and for what only one error at a time can have."""
        if twice := next((each for at, each in enumerate(self.devices) if each in self.devices[:at]), None):
            raise InputError(f"inject: {twice} is given twice", hint="several at once in one function: --count")
        if self.several and (self.vf is not None or self.header or self.prefix):
            raise InputError(
                "inject: --vf, --header and --prefix work with one error at a time only",
                hint="name one device, and space the errors with --every SECONDS",
            )

    async def carry_out(self, guest: Guest) -> Volley:
        if self.pause:
            await guest.shell.sleep(self.pause)
        if self.several:
            return await inject_at_once(
                guest, self.devices, self.error, count=self.count, route=self.route, severity=self.severity
            )
        (device,) = self.devices
        if self.vf is not None:
            await enable_at_least(guest, device, self.vf + 1)
            await load_drivers(guest)
        injection = await inject_error(
            guest,
            device,
            self.error,
            route=self.route,
            vf=self.vf,
            severity=self.severity,
            header=self.header,
            prefix=self.prefix,
        )
        return Volley(injections=(injection,), count=1, several=())


def _names(errors: list[str], *, all_errors: bool, severity: ErrorSeverity | None) -> list[str]:
    """Return the errors to inject, checked; the least bad first where it is all of them."""
    if all_errors == bool(errors):
        raise InputError("inject: no error given", hint="pass --error COMP_ABORT, repeated for several, or --all")
    for name in errors:
        find_record(name, severity)
    if errors:
        return errors
    known = [each for each in ERRORS if (each.severity is ErrorSeverity.CORRECTABLE) == (severity is _COR)]
    wanted = ERRORS if severity is None else known
    return [each.kernel for each in sorted(wanted, key=lambda each: list(ErrorSeverity).index(each.severity))]


async def _inject(prepared: Prepared, folder: Path, wishes: list[_Wish]) -> list[Volley]:
    """Carry out the wishes, in another guest once an error has killed the device or the bus above it."""
    waiting = list(wishes)
    volleys: list[Volley] = []
    async with LocalHost() as host:
        for number in itertools.count(1):
            place = folder / f"{number:02d}"
            place.mkdir()
            async with booted(
                prepared, host, place, title=f"testbed inject {prepared.template.name}", progress=show_progress
            ) as guest:
                volleys += await _until_dead(guest, waiting)
            if not waiting:
                return volleys
    return volleys


async def _inject_early(prepared: Prepared, folder: Path, wishes: list[_Wish]) -> list[Volley]:
    """Give the devices their errors before the guest begins, and see what it makes of them."""
    given: list[EarlyError] = []

    async def before(machine: Machine) -> None:
        given.extend([await inject_early(machine, device, each.error) for each in wishes for device in each.devices])

    title = f"testbed inject --early {prepared.template.name}"
    async with (
        LocalHost() as host,
        booted(prepared, host, folder, title=title, progress=show_progress, before=before) as guest,
    ):
        return [Volley(injections=(await each.outcome(guest),), count=1, several=()) for each in given]


async def _until_dead(guest: Guest, waiting: list[_Wish]) -> list[Volley]:
    done: list[Volley] = []
    while waiting and not (done and any(_is_dead(each) for each in done[-1].injections)):
        show_progress(f"{waiting[0].error} into {' and '.join(waiting[0].devices)}")
        done.append(await waiting.pop(0).carry_out(guest))
    return done


def _is_dead(injection: Injection) -> bool:
    failed = injection.recovery is not None and injection.recovery.state is not RecoveryState.SUCCESSFUL
    return injection.after is None or (failed and injection.severity is ErrorSeverity.FATAL)


def _show(volleys: list[Volley], *, as_json: bool) -> None:
    injections = [each for volley in volleys for each in volley.injections]
    several = [finding for volley in volleys for finding in volley.several]
    if as_json:
        rows = [injection_json(each) for each in injections]
        ports = [each.model_dump() for each in several]
        plain(json.dumps({"schema": SCHEMA, "injections": rows, "root_ports": ports}, indent=1))
        return
    if len(injections) > _SHOWN_WHOLE:
        print_injections(injections, out)
    else:
        for each in injections:
            print_injection(each, out)
    print_findings(several, out)

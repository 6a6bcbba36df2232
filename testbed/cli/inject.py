"""`testbed inject`: a PCIe error in a machine of one's choice, and the proof of what became of it."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.actions.aer import inject as inject_error
from testbed.actions.injection import InjectionVerdict, Route
from testbed.actions.sriov import enable_at_least
from testbed.campaign.prepared import booted, prepare
from testbed.cli.frame import CommandFrame
from testbed.cli.options import RUNS, AsJson, MachineName, Rundir, SetupOptions, spliced
from testbed.cli.terminal import out, plain, show_progress
from testbed.guest.drivers import load_drivers
from testbed.host.host import LocalHost
from testbed.model.aer import ErrorSeverity
from testbed.model.aer_name import ERRORS, find_error
from testbed.model.catalog import unknown
from testbed.model.errors import InputError
from testbed.model.recovery import RecoveryState
from testbed.report.injection import SCHEMA, injection_json, print_injection, print_injections
from testbed.verbs.words import parse_header, split_words

if TYPE_CHECKING:
    from testbed.actions.injection import Header, Injection
    from testbed.campaign.prepared import Prepared
    from testbed.guest.guest import Guest

_COR = ErrorSeverity.CORRECTABLE
#: more injections than this are shown as a table
_SHOWN_WHOLE = 3


@dataclass(frozen=True, kw_only=True)
class ErrorOptions:
    """The errors, and into what."""

    device: Annotated[str, typer.Option(help="Which device, by its id (testbed render MACHINE shows them).")]
    error: Annotated[
        list[str] | None,
        typer.Option(help="QEMU's name, the kernel's, or a status bit such as 0x8000.", show_default=False),
    ] = None
    every: Annotated[bool, typer.Option("--all", help="Inject every error there is, one after the other.")] = False
    route: Annotated[Route, typer.Option(help="Who injects; auto: QEMU if the guest hears that.")] = Route.AUTO
    vf: Annotated[
        int | None, typer.Option(help="The error is for this VF of the device, from 0.", show_default=False)
    ] = None
    severity: Annotated[
        ErrorSeverity | None,
        typer.Option(help="How bad it is to be; the device's severity register is set.", show_default=False),
    ] = None
    header: Annotated[str, typer.Option(help="The TLP's header, up to four words: '0 1 2 3'.")] = ""
    prefix: Annotated[str, typer.Option(help="The TLP's prefixes, up to four words; by QEMU only.")] = ""

    def wishes(self) -> list[_Wish]:
        """Return each error that is to be injected, checked."""
        return [
            _Wish(
                device=self.device,
                error=name,
                route=self.route,
                vf=self.vf,
                severity=self.severity,
                header=parse_header(split_words(self.header)),
                prefix=parse_header(split_words(self.prefix)),
            )
            for name in _names(self.error or [], every=self.every, severity=self.severity)
        ]


@spliced
def inject(
    machine: MachineName, errors: ErrorOptions, setup: SetupOptions, rundir: Rundir = RUNS, as_json: AsJson = False
) -> None:
    """Boot a machine, inject PCIe errors into a device, and say what became of each.

    Injected: the guest announced it. Masked, not reported, refused: with the register or the words that say so. Exits
    with 0 if all were injected, else with 1.
    """
    wishes = errors.wishes()
    prepared = prepare(setup.setup(machine), progress=show_progress)
    if errors.device not in (ids := [each.id for each in prepared.spec.devices]):
        raise unknown("device", errors.device, ids)
    with CommandFrame(rundir, stdout_for_programs=as_json) as frame:
        injections = frame.run(_inject(prepared, frame.folder, wishes))
        _show(injections, as_json=as_json)
    raise typer.Exit(0 if all(each.verdict is InjectionVerdict.INJECTED for each in injections) else 1)


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """One error that was asked for."""

    device: str
    error: str
    route: Route
    vf: int | None
    severity: ErrorSeverity | None
    header: Header | None
    prefix: Header | None

    async def carry_out(self, guest: Guest) -> Injection:
        if self.vf is not None:
            await enable_at_least(guest, self.device, self.vf + 1)
            await load_drivers(guest)
        return await inject_error(
            guest,
            self.device,
            self.error,
            route=self.route,
            vf=self.vf,
            severity=self.severity,
            header=self.header,
            prefix=self.prefix,
        )


def _names(errors: list[str], *, every: bool, severity: ErrorSeverity | None) -> list[str]:
    """Return the errors to inject, checked; the least bad first where it is all of them."""
    if every == bool(errors):
        raise InputError("inject: which error?", hint="--error COMP_ABORT, as often as you like, or --all")
    for name in errors:
        find_error(name, severity)
    if errors:
        return errors
    known = [each for each in ERRORS if (each.severity is ErrorSeverity.CORRECTABLE) == (severity is _COR)]
    wanted = ERRORS if severity is None else known
    return [each.kernel for each in sorted(wanted, key=lambda each: list(ErrorSeverity).index(each.severity))]


async def _inject(prepared: Prepared, folder: Path, wishes: list[_Wish]) -> list[Injection]:
    """Carry out the wishes, in another guest once an error has killed the device or the bus above it."""
    waiting = list(wishes)
    injections: list[Injection] = []
    async with LocalHost() as host:
        for number in itertools.count(1):
            place = folder / f"{number:02d}"
            place.mkdir()
            async with booted(
                prepared, host, place, title=f"testbed inject {prepared.template.name}", progress=show_progress
            ) as guest:
                injections += await _until_dead(guest, waiting)
            if not waiting:
                return injections
    return injections


async def _until_dead(guest: Guest, waiting: list[_Wish]) -> list[Injection]:
    done: list[Injection] = []
    while waiting and not (done and _is_dead(done[-1])):
        show_progress(f"{waiting[0].error} into {waiting[0].device}")
        done.append(await waiting.pop(0).carry_out(guest))
    return done


def _is_dead(injection: Injection) -> bool:
    failed = injection.recovery is not None and injection.recovery.state is not RecoveryState.SUCCESSFUL
    return injection.after is None or (failed and injection.severity is ErrorSeverity.FATAL)


def _show(injections: list[Injection], *, as_json: bool) -> None:
    if as_json:
        plain(json.dumps({"schema": SCHEMA, "injections": [injection_json(each) for each in injections]}, indent=1))
    elif len(injections) > _SHOWN_WHOLE:
        print_injections(injections, out)
    else:
        for each in injections:
            print_injection(each, out)

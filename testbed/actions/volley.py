"""Volley: errors injected at the same moment, into one function or several, and how the guest handled them.

By QEMU's route the machine is stopped meanwhile: its root port receives several messages before anybody looks, and
says so in Root Error Status ("Multiple", PCIe Base 6.3, 7.8.4.10). The guest's injector raises its interrupt with each
record, so that by its route the kernel mostly sees one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.aer import find_target, ready_path
from testbed.actions.injection import Attempt, Injection, InjectionVerdict, Route
from testbed.actions.injectors import (
    at_once,
    inject_by_guest,
    inject_by_qemu,
    kernel_reply,
    pack_order,
    unload_injector,
)
from testbed.actions.silence import why_silent
from testbed.guest.aer_counters import counter_findings, expected_counts, read_counters
from testbed.guest.error_path import read_error_path
from testbed.guest.recovery import WAITS, await_recovery, await_word, show_steps
from testbed.model.aer import ErrorSeverity
from testbed.model.aer_log import parse_announcement
from testbed.model.aer_name import find_record
from testbed.model.errors import RefusedError
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.actions.injection import Target
    from testbed.guest.aer_counters import ErrorCounters
    from testbed.guest.error_path import ErrorPath
    from testbed.guest.guest import Guest
    from testbed.guest.recovery import Waits
    from testbed.model.aer import ErrorRecord
    from testbed.model.kernel_log import LogRecord

_COR = ErrorSeverity.CORRECTABLE


@dataclass(frozen=True, kw_only=True)
class _Shot:
    """One function's part."""

    target: Target
    before: ErrorPath
    counted: ErrorCounters


@dataclass(frozen=True, kw_only=True)
class Volley:
    """What became of errors that came at once."""

    injections: tuple[Injection, ...]  #: one for each function
    count: int  #: how often each function had the error
    several: tuple[Finding, ...]  #: whether each root port's word says that there were several

    @property
    def heard(self) -> bool:
        """Return whether the guest spoke of every function."""
        return all(each.verdict is InjectionVerdict.INJECTED for each in self.injections)

    @property
    def told(self) -> bool:
        """Return whether each root port that was told several times said so."""
        return all(each.expected == each.observed for each in self.several)


async def inject_at_once(
    guest: Guest,
    devices: Sequence[str],
    error: str,
    *,
    count: int = 1,
    route: Route = Route.AUTO,
    severity: ErrorSeverity | None = None,
    waits: Waits = WAITS,
) -> Volley:
    """Give one function or several an error, `count` times each, all at the same moment of the guest's.

    Raises InputError for what does not exist, and for a device without AER.
    """
    record = find_record(error, severity)
    targets = [await find_target(guest, each) for each in devices]
    paths = [await ready_path(guest, each, record, severity) for each in targets]
    await show_steps(guest)
    counted = [await read_counters(guest, path) for path in paths]
    shots = [
        _Shot(target=target, before=path, counted=counts)
        for target, path, counts in zip(targets, paths, counted, strict=True)
    ]
    return await _Order(guest=guest, record=record, shots=shots, count=count, waits=waits).carry_out(route)


@dataclass(frozen=True, kw_only=True)
class _Order:
    guest: Guest
    record: ErrorRecord
    shots: Sequence[_Shot]
    count: int
    waits: Waits

    async def carry_out(self, route: Route) -> Volley:
        """Inject, and hear what the guest says of each function."""
        await self.guest.shell.catch_up()
        position, started = self.guest.shell.log.latest, await self.guest.shell.clock()
        choice = self._why_guest(route)
        taken = Route.GUEST if route is Route.GUEST or choice else Route.QEMU
        refusal = await (self._by_guest(position) if taken is Route.GUEST else self._by_qemu())
        attempts = [refusal or await self._heard(shot, taken, position) for shot in self.shots]
        injections = [
            await self._injection(shot, attempt, choice, position, started)
            for shot, attempt in zip(self.shots, attempts, strict=True)
        ]
        several = self._several(taken, position) if not refusal else ()
        return Volley(injections=tuple(injections), count=self.count, several=several)

    def _why_guest(self, route: Route) -> str:
        """Return why QEMU's injector would not do, where either may."""
        if route is not Route.AUTO:
            return ""
        closed = (each.before.closed(self._severity(each)) for each in self.shots)
        words = next((each for each in closed if each), "")
        return f"{words}, so QEMU's would not be heard" if words else ""

    def _severity(self, shot: _Shot) -> ErrorSeverity:
        return shot.before.device.worst_of(self.record.errors)

    async def _by_qemu(self) -> Attempt | None:
        await unload_injector(self.guest)
        machine = self.guest.machine
        try:
            async with at_once(machine):
                for shot in self.shots:
                    await inject_by_qemu(machine, shot.target.device, self.record, count=self.count)
        except RefusedError as refusal:
            return _attempt(Route.QEMU, InjectionVerdict.REFUSED, refusal.description, refusal.evidence)
        return None

    async def _by_guest(self, position: int) -> Attempt | None:
        orders = [pack_order(shot.target.bdf, self.record) for shot in self.shots] * self.count
        result = await inject_by_guest(self.guest, orders)
        if result.status == 0:
            return None
        reply, evidence = await kernel_reply(self.guest, result, after=position)
        verdict = InjectionVerdict.MASKED if "masked" in reply else InjectionVerdict.REFUSED
        return _attempt(Route.GUEST, verdict, reply, evidence)

    async def _heard(self, shot: _Shot, route: Route, position: int) -> Attempt:
        word = await await_word(self.guest, shot.target.bdf, after=position, seconds=self.waits.report)
        if word:
            return _attempt(route, InjectionVerdict.INJECTED, word.text, word.reference)
        if shot.before.device.masks_all(self.record.errors):
            return _attempt(route, InjectionVerdict.MASKED, "its mask register says so", shot.before.evidence)
        why, evidence = await why_silent(self.guest, shot.target, self._severity(shot))
        return _attempt(route, InjectionVerdict.NOT_REPORTED, why, evidence or shot.before.evidence)

    async def _injection(self, shot: _Shot, attempt: Attempt, choice: str, position: int, started: float) -> Injection:
        heard = attempt.verdict is InjectionVerdict.INJECTED
        recovery = None
        if heard and self.record.uncorrectable:
            recovery = await await_recovery(self.guest, shot.target.bdf, after=position, seconds=self.waits.recovery)
        wanted = expected_counts(shot.before, self.record.errors, heard=heard)
        counters = counter_findings(shot.counted, await read_counters(self.guest, shot.before), wanted)
        after = await read_error_path(self.guest, shot.target.bdf)
        await self.guest.shell.catch_up()
        return Injection(
            target=shot.target,
            record=self.record,
            severity=self._severity(shot),
            header=None,
            choice=choice,
            attempts=(attempt,),
            before=shot.before,
            after=after,
            log=tuple(each for each in self.guest.shell.log.records if each.sequence > position),
            position=position,
            started=started,
            recovery=recovery,
            counters=counters,
        )

    def _several(self, route: Route, position: int) -> tuple[Finding, ...]:
        """Return what each root port's announcements say of how many there were, for each kind of message."""
        findings = []
        for is_correctable, bits in ((True, self.record.correctable), (False, self.record.uncorrectable)):
            by_root: dict[str, int] = {}
            for shot in self.shots:
                root = shot.before.root
                if root is not None and bits:
                    by_root[str(root.bdf)] = by_root.get(str(root.bdf), 0) + bits.bit_count() * self.count
            findings += [
                _several_finding(root, sent, self._announced(root, is_correctable, position), route)
                for root, sent in by_root.items()
            ]
        return tuple(findings)

    def _announced(self, root: str, is_correctable: bool, position: int) -> list[tuple[LogRecord, bool]]:
        """Return what a root port announced, and whether it said that there were several."""
        read = [(each, parse_announcement(each.text)) for each in self.guest.shell.log.find("AER: ", after=position)]
        return [
            (record, announced.several)
            for record, announced in read
            if announced and str(announced.port) == root and (announced.severity is _COR) == is_correctable
        ]


def _several_finding(root: str, sent: int, announced: list[tuple[LogRecord, bool]], route: Route) -> Finding:
    several = [record for record, is_several in announced if is_several]
    said = "Multiple" if several else "one" if announced else "nothing"
    evidence = (several or [record for record, _ in announced])[:1]
    return Finding(
        subject=f"the log of root port {root} on {sent} message{'s' * (sent > 1)}",
        # the guest's injector raises an interrupt with each record
        expected=("Multiple" if sent > 1 else "one") if route is Route.QEMU else said,
        observed=said,
        evidence=evidence[0].reference if evidence else "kernel.log",
    )


def _attempt(route: Route, verdict: InjectionVerdict, why: str, evidence: str) -> Attempt:
    return Attempt(route=route, verdict=verdict, why=why, evidence=evidence)

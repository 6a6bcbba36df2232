"""InjectionOrder: one error on its way, by one route or the other, until the guest has spoken or not."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from testbed.guest.recovery import Waits, await_announcement, await_recovery
from testbed.model.aer import CORRECTABLE_STATUS_AT, STATUS_AT
from testbed.model.aer_name import error_words, is_correctable
from testbed.model.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from testbed.actions.injection import Header, Target
    from testbed.guest.aer_counters import ErrorCounters
    from testbed.guest.error_path import ErrorPath
    from testbed.guest.guest import Guest
    from testbed.guest.shell import Result
    from testbed.model.aer import ErrorRecord, ErrorSeverity
    from testbed.model.outcome import Finding

#: guest seconds in which an error that is masked might be announced all the same
_MASKED_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class InjectionOrder:
    """One error for one function, checked."""

    guest: Guest
    target: Target
    record: ErrorRecord
    header: Header | None
    prefix: Header | None
    before: ErrorPath
    position: int
    waits: Waits
    #: is done once QEMU's device has the error, with the machine stopped
    then: Callable[[], Awaitable[None]] | None = None

    @property
    def severity(self) -> ErrorSeverity:
        """Return how bad its worst error is on this function."""
        return self.before.device.worst_of(self.record.errors)

    @property
    def _severities(self) -> set[ErrorSeverity]:
        """Return the severities that must be announced: one for each kind of error that is not masked."""
        device = self.before.device
        return {device.severity_of(each) for each in self.record.errors if not device.masks(each)}

    async def carry_out(self, route: Route) -> Injection:
        """Inject by a route, see what comes of it, and wait for the end of the recovery if one begins."""
        counted = await read_counters(self.guest, self.before)
        started = await self.guest.shell.clock()
        choice = self._why_guest(route)
        attempts = [await (self._by_guest() if choice else self._by_qemu())]
        if route is Route.AUTO and attempts[0].route is Route.QEMU and await self._never_sent(attempts[0]):
            await self._clear()
            attempts.append(await self._by_guest())
        injected = attempts[-1].verdict is InjectionVerdict.INJECTED
        recovery = None
        if injected and self.record.uncorrectable:
            recovery = await await_recovery(
                self.guest, self.target.bdf, after=self.position, seconds=self.waits.recovery
            )
        after = await read_error_path(self.guest, self.target.bdf)
        await self.guest.shell.catch_up()
        log = self.guest.shell.log
        return Injection(
            target=self.target,
            record=self.record,
            severity=self.severity,
            header=self.header,
            choice=choice if route is Route.AUTO else "",
            attempts=tuple(attempts),
            before=self.before,
            after=after,
            log=tuple(record for record in log.records if record.sequence > self.position),
            position=self.position,
            started=started,
            recovery=recovery,
            counters=await self._counted(counted, heard=injected),
        )

    async def _counted(self, before: ErrorCounters, *, heard: bool) -> tuple[Finding, ...]:
        wanted = expected_counts(self.before, self.record.errors, heard=heard)
        return counter_findings(before, await read_counters(self.guest, self.before), wanted)

    def _why_guest(self, route: Route) -> str:
        """Return why the guest's injector comes first; empty if QEMU's does."""
        if route is not Route.AUTO:
            return "asked for" if route is Route.GUEST else ""
        if self.target.vf is not None:
            return "QEMU's injector takes ids, and a VF has none"
        closed = self.before.closed(self.severity)
        return f"{closed}, so QEMU's would not be heard" if closed and self.prefix is None else ""

    async def _never_sent(self, attempt: Attempt) -> bool:
        """Return whether QEMU's device model sent nothing, so that the guest's injector may do better."""
        if self.prefix is not None or attempt.verdict not in (
            InjectionVerdict.REFUSED,
            InjectionVerdict.NOT_REPORTED,
        ):
            return False
        path = await read_error_path(self.guest, self.target.bdf)
        return path is not None and not path.root_was_told

    async def _clear(self) -> None:
        """Clear what a try by QEMU has latched."""
        registers = ((STATUS_AT, self.record.uncorrectable), (CORRECTABLE_STATUS_AT, self.record.correctable))
        clear = " ".join(f"ECAP_AER+{at:x}.l={bits:08x}" for at, bits in registers if bits)
        await self.guest.act(f"setpci -s {self.target.bdf} {clear} CAP_EXP+a.w=000f")

    async def _by_qemu(self) -> Attempt:
        await unload_injector(self.guest)
        machine = self.guest.machine
        several = len(self.record.errors) > 1
        try:
            async with at_once(machine) if several or self.then else contextlib.nullcontext():
                await inject_by_qemu(machine, self.target.device, self.record, header=self.header, prefix=self.prefix)
                taken = machine.qmp.last_reply
                if self.then:
                    await self.then()
        except RefusedError as refusal:
            return _attempt(Route.QEMU, InjectionVerdict.REFUSED, refusal.description, refusal.evidence)
        return await self._heard(Route.QEMU, taken)

    async def _by_guest(self) -> Attempt:
        result = await inject_by_guest(self.guest, [pack_order(self.target.bdf, self.record, self.header)])
        if result.status == 0:
            return await self._heard(Route.GUEST, result.evidence)
        return await self._refused_by_kernel(result)

    async def _refused_by_kernel(self, result: Result) -> Attempt:
        """Tell a mask from a refusal: the write fails either way, and the log says which."""
        reply, evidence = await kernel_reply(self.guest, result, after=self.position)
        masked = "masked" in reply
        why = f"{reply}: {self._mask_words()}" if masked else reply
        verdict = InjectionVerdict.MASKED if masked else InjectionVerdict.REFUSED
        return _attempt(Route.GUEST, verdict, why, evidence)

    async def _heard(self, route: Route, taken: str) -> Attempt:
        """Say whether the guest announced an error that the injector has taken."""
        masked = self.before.device.masks_all(self.record.errors)
        seconds = _MASKED_SECONDS if masked else self.waits.report
        record = await await_announcement(
            self.guest, self.target.bdf, after=self.position, seconds=seconds, severities=self._severities
        )
        if record:
            return _attempt(route, InjectionVerdict.INJECTED, record.text, record.reference)
        if masked:
            return _attempt(route, InjectionVerdict.MASKED, self._mask_words(), self.before.evidence)
        why, evidence = await why_silent(self.guest, self.target, self.severity)
        return _attempt(route, InjectionVerdict.NOT_REPORTED, why, evidence or taken)

    def _mask_words(self) -> str:
        aer = self.before.device.aer
        if aer is None:
            return ""
        error = self.record.worst
        correctable = is_correctable(error)
        value = aer.correctable_mask if correctable else aer.mask
        register = f"{'Correctable' if correctable else 'Uncorrectable'} Error Mask of {self.target.bdf}"
        return f"{register} is {value:#010x}, {error_words(error)} is {error.mask:#x}"


def _attempt(route: Route, verdict: InjectionVerdict, why: str, evidence: str) -> Attempt:
    return Attempt(route=route, verdict=verdict, why=why, evidence=evidence)

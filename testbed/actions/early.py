"""Early: errors that devices have before the guest's first instruction, and what the guest makes of them as it starts.

Nobody has switched their reporting on, so that they stay in the status registers; Linux, where AER is its own, clears
those as it finds the function (pci_aer_init() in drivers/pci/pcie/aer.c), and the root port's as it takes that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.aer import find_target
from testbed.actions.injection import Attempt, Injection, InjectionVerdict, Route
from testbed.actions.injectors import inject_by_qemu
from testbed.guest.aer_counters import NO_COUNTERS, counter_findings, expected_counts, read_counters
from testbed.guest.error_path import read_error_path
from testbed.guest.recovery import REPORT_SECONDS, await_word
from testbed.model.aer_name import find_record
from testbed.model.errors import InputError, RefusedError

if TYPE_CHECKING:
    from testbed.guest.error_path import ErrorPath
    from testbed.guest.guest import Guest
    from testbed.machine.launch import Machine
    from testbed.model.aer import ErrorRecord


@dataclass(frozen=True, kw_only=True)
class EarlyError:
    """An error that a device has taken before the guest began."""

    device: str
    record: ErrorRecord
    refusal: Attempt | None

    async def outcome(self, guest: Guest) -> Injection:
        """Say what became of it, in the guest that has booted."""
        target = await find_target(guest, self.device)
        path = await read_error_path(guest, target.bdf)
        if path is None or path.device.aer is None:
            raise InputError(f"inject: {target} ({target.driver}) at {target.bdf} has no AER capability")
        word = await await_word(guest, target.bdf, after=-1, seconds=REPORT_SECONDS)
        attempt = self.refusal
        if attempt is None and word:
            attempt = _attempt(InjectionVerdict.INJECTED, word.text, word.reference)
        after = await read_counters(guest, path)
        wanted = expected_counts(path, self.record.errors, heard=word is not None)
        return Injection(
            target=target,
            record=self.record,
            severity=path.device.worst_of(self.record.errors),
            header=None,
            choice="",
            attempts=(attempt or _attempt(InjectionVerdict.NOT_REPORTED, self._why(path), path.evidence),),
            before=None,
            after=path,
            log=tuple(each for each in guest.shell.log.find("AER: |aer")),
            position=-1,
            started=0.0,
            counters=counter_findings(NO_COUNTERS, after, wanted),
        )

    def _why(self, path: ErrorPath) -> str:
        latched = [each.kernel for each in self.record.errors if path.device.latched(each)]
        if latched:
            return f"{', '.join(latched)} still set in the status of {path.device.bdf}: nothing has looked at it"
        return f"the guest silently cleared the status of {path.device.bdf} while booting"


async def inject_early(machine: Machine, device: str, error: str) -> EarlyError:
    """Give a device errors by QEMU while its machine has not begun; raise InputError for what does not exist."""
    record = find_record(error)
    refusal = None
    try:
        await inject_by_qemu(machine, device, record)
    except RefusedError as refused:
        refusal = _attempt(InjectionVerdict.REFUSED, refused.description, refused.evidence)
    return EarlyError(device=device, record=record, refusal=refusal)


def _attempt(verdict: InjectionVerdict, why: str, evidence: str) -> Attempt:
    return Attempt(route=Route.QEMU, verdict=verdict, why=why, evidence=evidence)

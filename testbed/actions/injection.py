"""Injection: what became of an injected error, by which route, and what that rests on."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.guest.recovery import recovery_findings
from testbed.model.aer_log import parse_header, parse_status
from testbed.model.aer_name import record_words
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.guest.error_path import ErrorPath
    from testbed.model.aer import AerError, ErrorRecord, ErrorSeverity
    from testbed.model.kernel_log import LogRecord
    from testbed.model.pci import Bdf
    from testbed.model.recovery import Recovery

Header = tuple[int, int, int, int]


class Route(enum.StrEnum):
    """Who injects."""

    AUTO = "auto"  #: QEMU where its device model delivers, else the guest
    QEMU = "qemu"  #: the emulated device has the error: pcie_aer_inject_error
    GUEST = "guest"  #: the guest's kernel is made to see one: its module aer_inject


class InjectionVerdict(enum.StrEnum):
    """What became of an injected error."""

    INJECTED = "injected"  #: the guest announced it
    MASKED = "masked"  #: a mask register keeps it silent
    NOT_REPORTED = "not-reported"  #: an enable bit is off, or the device model does not send the message
    REFUSED = "refused"  #: the injector said no


@dataclass(frozen=True, kw_only=True)
class Target:
    """The function that gets the error."""

    device: str  #: QEMU's id: of the function, or of a VF's PF
    driver: str
    bdf: Bdf
    vf: int | None = None  #: number of the VF, from 0; QEMU's injector cannot name one

    def __str__(self) -> str:
        return self.device if self.vf is None else f"VF {self.vf} of {self.device}"


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try by one route."""

    route: Route
    verdict: InjectionVerdict
    why: str
    evidence: str

    def finding(self, target: Target) -> Finding:
        """Return it as a finding."""
        return Finding(
            subject=f"injection into {target} by {self.route}",
            expected="the guest announces it",
            observed=f"{self.verdict}: {self.why}",
            evidence=self.evidence,
        )


@dataclass(frozen=True, kw_only=True)
class Injection:
    """The result of `inject`."""

    target: Target
    record: ErrorRecord
    severity: ErrorSeverity  #: of its worst error on this function
    header: Header | None  #: as asked for
    choice: str  #: why the guest's injector was taken without a try of QEMU's; empty if it was not
    attempts: tuple[Attempt, ...]  #: the last one counts
    before: ErrorPath | None  #: None if the guest had not begun
    after: ErrorPath | None  #: None if the function does not answer any more
    log: tuple[LogRecord, ...] = field(repr=False)  #: what the kernel said meanwhile
    position: int  #: sequence number of the kernel's last message before it
    started: float  #: guest seconds
    recovery: Recovery | None = None  #: of an uncorrectable error that was announced
    counters: tuple[Finding, ...] = ()  #: the kernel's own counts of it, before and after

    @property
    def error(self) -> AerError:
        """Return the error that decides what becomes of it."""
        return self.record.worst

    @property
    def verdict(self) -> InjectionVerdict:
        """Return what became of it."""
        return self.attempts[-1].verdict

    @property
    def route(self) -> Route:
        """Return the route it went in the end."""
        return self.attempts[-1].route

    @property
    def reason(self) -> str:
        """Return why, in one sentence."""
        return self.attempts[-1].why

    @property
    def request(self) -> str:
        """Return what was asked for, in words."""
        return f"{record_words(self.record)} ({self.severity}) into {self.target}"

    @property
    def latched(self) -> bool:
        """Return whether the function's uncorrectable error status still has the errors: nobody has cleared them."""
        aer = self.after.device.aer if self.after else None
        return aer is not None and aer.status & self.record.uncorrectable == self.record.uncorrectable != 0

    @property
    def findings(self) -> list[Finding]:
        """Return every attempt, and the recovery."""
        attempts = [each.finding(self.target) for each in self.attempts]
        recovery = recovery_findings(self.recovery) if self.recovery else []
        return [*self._chosen(), *attempts, *self._latched(), *self._logged(), *recovery, *self.counters]

    def _latched(self) -> list[Finding]:
        """Return that a function has an error of which nobody heard."""
        if self.verdict is InjectionVerdict.INJECTED or not self.latched or self.after is None:
            return []
        subject, observed = f"error status of {self.target}, afterwards", "the error is still there"
        return [Finding(subject=subject, expected="cleared", observed=observed, evidence=self.after.evidence)]

    def _logged(self) -> list[Finding]:
        """Return the registers that the kernel read of the function, and printed; it reads none behind a dead link."""
        findings = []
        for record in self.log:
            status, header = parse_status(record.text), parse_header(record.text)
            if status and status.device == self.target.bdf:
                observed = f"{status.status:#010x}, mask {status.mask:#010x}"
                findings.append(self._read("error status", f"{self._wanted(status.status):#010x}", observed, record))
            if header and header.device == self.target.bdf:
                wanted = _words(self.header) if self.header else "any"
                findings.append(self._read("TLP header", wanted, _words(header.words), record))
        return findings

    def _wanted(self, status: int) -> int:
        """Return the bits that were asked for, of the status register that the kernel has printed."""
        either = (self.record.uncorrectable, self.record.correctable)
        return max(either, key=lambda bits: (bits & status).bit_count())

    def _read(self, what: str, expected: str, observed: str, record: LogRecord) -> Finding:
        subject = f"{what} of {self.target.bdf}, read by the guest"
        return Finding(subject=subject, expected=expected, observed=observed, evidence=record.reference)

    def _chosen(self) -> list[Finding]:
        if not self.choice or self.before is None:
            return []
        observed = f"the guest's injector: {self.choice}"
        return [Finding(subject="route", expected="any", observed=observed, evidence=self.before.evidence)]


def _words(words: Header) -> str:
    return " ".join(f"{word:08x}" for word in words)

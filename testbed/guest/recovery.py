"""The guest's error recovery while it happens: its steps in the kernel's log, and the functions afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.drivers import bound_driver
from testbed.guest.files import show
from testbed.model.aer_log import parse_announcement, parse_bus_error
from testbed.model.config_space import SIZES, ConfigSpace
from testbed.model.outcome import Finding
from testbed.model.recovery import read_recoveries

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeVar

    from testbed.guest.guest import Guest
    from testbed.model.aer import ErrorSeverity
    from testbed.model.kernel_log import LogRecord
    from testbed.model.pci import Bdf
    from testbed.model.recovery import Recovery

    T = TypeVar("T")

#: guest seconds from an error message to the kernel's word on it: an interrupt and a thread
REPORT_SECONDS = 2.0
#: guest seconds a recovery may take; the slowest seen, of a card with eight VFs that reset one after the other, takes 9
RECOVERY_SECONDS = 30.0
_POLL = 0.1
#: the steps of a recovery are debug messages: Linux 5.10 and later show them if asked (CONFIG_DYNAMIC_DEBUG)
_CONTROL = "/proc/dynamic_debug/control"
_SHOW_STEPS = f"echo 'file drivers/pci/pcie/err.c +p' > {_CONTROL}"


@dataclass(frozen=True, kw_only=True)
class Waits:
    """How many guest seconds the kernel is given after an error."""

    report: float = REPORT_SECONDS  #: for its word on it
    recovery: float = RECOVERY_SECONDS  #: for the end of a recovery


WAITS = Waits()


@dataclass(frozen=True, kw_only=True)
class FunctionLife:
    """Whether a function answers and has its driver."""

    bdf: Bdf
    answers: bool  #: its configuration space is there and does not read as all ones
    driver: str  #: empty if none is bound
    evidence: str

    @property
    def finding(self) -> Finding:
        """Return it as a finding."""
        driver = f"bound to {self.driver}" if self.driver else "no driver"
        return Finding(
            subject=f"function {self.bdf}",
            expected="answers, with its driver",
            observed=f"{'answers' if self.answers else 'does not answer'}, {driver}",
            evidence=self.evidence,
        )


async def show_steps(guest: Guest) -> bool:
    """Have the kernel log every step of a recovery; return whether it can."""
    result = await guest.shell.run(f"{_SHOW_STEPS} 2>/dev/null")
    if result.status == 0:
        guest.machine.journal.step("guest", _SHOW_STEPS)
    return result.status == 0


async def await_announcement(
    guest: Guest,
    source: Bdf,
    *,
    after: int,
    seconds: float = REPORT_SECONDS,
    severities: Collection[ErrorSeverity] = (),
) -> LogRecord | None:
    """Wait until the kernel announces an error of `source`, or of whatever stands at its port; None if it does not.

    Only messages after the one numbered `after` count. Of several `severities` each must be announced; the record of
    the last one is returned.
    """

    def look() -> LogRecord | None:
        found: LogRecord | None = None
        wanted = set(severities)
        for record in guest.shell.log.find("AER: ", after=after):
            announced = parse_announcement(record.text)
            if announced and announced.source == source:
                wanted.discard(announced.severity)
                found = record
        return found if not wanted else None

    return await _until(guest, look, seconds)


async def await_word(guest: Guest, function: Bdf, *, after: int, seconds: float = REPORT_SECONDS) -> LogRecord | None:
    """Wait until the kernel announces an error of a function, or reports that it has one; None if it does not.

    Where several errors come at once, the root port names one function, and the kernel finds the others.
    """

    def look() -> LogRecord | None:
        for record in guest.shell.log.find("", after=after):
            announced, error = parse_announcement(record.text), parse_bus_error(record.text)
            if (announced and announced.source == function) or (error and error.device == function):
                return record
        return None

    return await _until(guest, look, seconds)


async def await_recovery(
    guest: Guest, source: Bdf | None, *, after: int, seconds: float = RECOVERY_SECONDS
) -> Recovery | None:
    """Wait for the end of the recovery from an error of `source`, or of anything; return it as far as it got.

    None if none began.
    """

    def look() -> Recovery | None:
        recovery = latest_recovery(guest, source, after=after)
        return recovery if recovery and recovery.ended else None

    ended = await _until(guest, look, seconds)
    return ended or latest_recovery(guest, source, after=after)


def latest_recovery(guest: Guest, source: Bdf | None, *, after: int) -> Recovery | None:
    """Return the latest recovery from an error of `source`, or of anything, as far as it is in the log."""
    records = (record for record in guest.shell.log.records if record.sequence > after)
    found = [each for each in read_recoveries(records).recoveries if source in (None, each.source)]
    return found[-1] if found else None


async def function_life(guest: Guest, bdf: Bdf) -> FunctionLife:
    """Look whether a function answers and has a driver."""
    config = f"{bdf.sysfs}/config"
    shown = await show(guest, config)
    data = shown.files.get(config, b"")
    answers = len(data) in SIZES and not ConfigSpace(data[:64]).is_absent
    return FunctionLife(bdf=bdf, answers=answers, driver=await bound_driver(guest, bdf), evidence=shown.evidence)


def recovery_findings(recovery: Recovery) -> list[Finding]:
    """Return a recovery as findings: its path, and who vetoed."""
    path = Finding(
        subject=f"recovery of {recovery.source} ({recovery.severity})",
        expected="… → successful",
        observed=f"{recovery} in {recovery.seconds:.2f} s, below {recovery.bridge}",
        evidence=recovery.path[-1].record.reference,
    )
    vetoes = [
        Finding(
            subject=f"vote of {veto.device}",
            expected="none against the recovery",
            observed=veto.reason,
            evidence=veto.record.reference,
        )
        for veto in recovery.vetoes
    ]
    return [path, *vetoes]


async def _until(guest: Guest, look: Callable[[], T | None], seconds: float) -> T | None:
    """Look into the kernel's log, as of now, every so often for up to `seconds` guest seconds."""
    end = await guest.shell.clock() + seconds
    while True:
        await guest.shell.catch_up()
        found = look()
        if found is not None or guest.shell.seconds >= end:
            return found
        await guest.shell.sleep(_POLL)

"""From exception to verdict: the one table.

Before the stimulus nothing can be said about the guest, so whatever happens is `broken`; from the stimulus on a guest
or a QEMU that dies by itself is what people look for, and `bad`. A starting state that the command line took away is
`bad` too: the hardware has it, and without the option the guest would.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from testbed.model.errors import (
    BedError,
    BlockedError,
    BootError,
    ChannelError,
    GuestCrashedError,
    InputError,
    LackingError,
    MigrationError,
    OtherVersionError,
    QemuCrashedError,
    QemuLostError,
    RefusedError,
    TakenAwayError,
    UnsupportedError,
)
from testbed.model.kernel_log import Crash
from testbed.model.outcome import Finding, Verdict, standing_findings

#: the outcome of a cell whose input could not be used: the run exits with 2
REJECTED = "rejected"
#: the outcome of a row that is about other versions than these
OTHER_VERSION = "other-version"
#: nothing that the test bed or a scenario expected; where it came from is in a file of the rundir
BED_ERROR, TRACEBACK = "bed-error", "traceback.txt"
_UNEXPECTED = f"this is a bug of the test bed: report it with {TRACEBACK}, which is in the rundir"


#: what a host runs out of, by errno, and what fixes it
_EXHAUSTED = {
    errno.ENOSPC: "free disk space where the rundir and the temporary files are",
    errno.EMFILE: "allow more open files: ulimit -n 1024",
    errno.ENFILE: "the host as a whole has too many open files: see sysctl fs.file-max",
    errno.ENOMEM: "free memory, or run fewer guests at once: --jobs 1",
}
#: crashes that a kernel tells by time alone, which passes as well where it was not let run
_BY_TIME = frozenset({Crash.LOCKUP, Crash.RCU_STALL, Crash.HUNG_TASK})
#: half of the shortest limit among them: 20 s, of a soft lockup (kernel/watchdog.c)
_STARVED = 10.0
_FREE_THE_HOST = "run it again on a host with less to do, or with --jobs 1"
#: outcomes of a broken cell that its guest brought about: it did not boot, crashed early, or had no starting state
TREE_OUTCOMES = frozenset({"no-boot", "crashed", "blocked", "broken"})


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """What an exception means for a cell."""

    verdict: Verdict
    outcome: str
    reason: str
    hint: str | None
    findings: tuple[Finding, ...]


def rule(error: Exception, *, stimulus: str | None, starved: float = 0.0) -> Ruling:
    """Return the ruling on an exception; `stimulus` is the request, None if it was not reached.

    `starved` are the seconds since then in which the host gave QEMU no CPU.
    """
    verdict, outcome = _verdict(error, reached=stimulus is not None)
    where = f"after {stimulus}" if stimulus else "before the stimulus"
    message = _message(error)
    if starved >= _STARVED and isinstance(error, GuestCrashedError) and error.crash in _BY_TIME:
        verdict, outcome = Verdict.BROKEN, "starved"
        message += f"; but the host gave its QEMU no CPU for {starved:.0f} s, which looks the same"
    finding = Finding(subject=where, expected="the run reaches a verdict", observed=message, evidence=_evidence(error))
    standing = standing_findings(error) if isinstance(error, BlockedError) else []
    return Ruling(
        verdict=verdict,
        outcome=outcome,
        reason=message,
        hint=_FREE_THE_HOST if outcome == "starved" else _hint(error),
        findings=(finding, *standing),
    )


def _verdict(error: Exception, *, reached: bool) -> tuple[Verdict, str]:  # noqa: PLR0911, PLR0912 (a table)
    judged = Verdict.BAD if reached else Verdict.BROKEN
    match error:
        case OtherVersionError():
            return Verdict.SKIP, OTHER_VERSION
        case UnsupportedError() | LackingError():
            return Verdict.SKIP, "unsupported"
        case InputError():
            return Verdict.BROKEN, REJECTED
        case GuestCrashedError():
            return judged, "crashed"
        case TakenAwayError():
            return Verdict.BAD, "taken-away"
        case BlockedError():
            return judged, "blocked"
        case QemuCrashedError():
            return judged, "qemu-crashed"
        case RefusedError():
            return Verdict.BROKEN, "refused"
        case MigrationError():
            return judged, "not-migrated"
        case BootError():
            return Verdict.BROKEN, "no-boot"
        case QemuLostError() | ChannelError():
            return Verdict.BROKEN, "lost"
        case BedError():
            return Verdict.BROKEN, "broken"
        case _:
            return Verdict.BROKEN, BED_ERROR


def _message(error: Exception) -> str:
    if isinstance(error, BedError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        return f"the host: {error.strerror}" + (f": {error.filename}" if error.filename else "")
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _hint(error: Exception) -> str | None:
    """Return the hint; a cell that is skipped was written by somebody who knew the name that is missing."""
    if isinstance(error, LackingError):
        return error.remedy
    if isinstance(error, OSError):
        return _EXHAUSTED.get(error.errno or 0, _UNEXPECTED)
    return error.hint if isinstance(error, BedError) else _UNEXPECTED


def _evidence(error: Exception) -> str:
    if isinstance(error, LackingError):
        return "machine.yaml"
    if isinstance(error, (GuestCrashedError, RefusedError, MigrationError, BlockedError, TakenAwayError)):
        return error.evidence
    if isinstance(error, (QemuCrashedError, QemuLostError, InputError)):
        return "qemu.log"
    return "console.log" if isinstance(error, BedError) else TRACEBACK

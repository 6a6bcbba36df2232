"""Recovery: what Linux does after an uncorrectable error, as a state machine read from its log.

    detected ─▶ mmio_enabled ─▶ slot_reset ─▶ resume ─▶ successful
        └─────▶ link reset ─────────▲            (from any of them) ─▶ failed

The steps are those of Documentation/PCI/pci-error-recovery.rst, driven by pcie_do_recovery() in
drivers/pci/pcie/err.c (5.10 to 7.1). A fatal error resets the link; since 6.18 (d0a2dee7d458) a non-fatal one does too
if a driver asks for it. The "broadcast …" lines are debug messages: older kernels always log them, later ones with
dynamic debug. Without them a recovery goes from `detected` to its end, by way of a link reset if there is one.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.model.aer import ErrorSeverity
from testbed.model.aer_log import parse_announcement
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.model.aer_log import Announcement
    from testbed.model.kernel_log import LogRecord


class RecoveryState(enum.StrEnum):
    """A recovery's state."""

    DETECTED = "detected"  #: the drivers hear of the error (error_detected) and vote
    MMIO_ENABLED = "mmio_enabled"
    LINK_RESET = "link reset"
    SLOT_RESET = "slot_reset"
    RESUME = "resume"
    SUCCESSFUL = "successful"
    FAILED = "failed"


_S = RecoveryState
#: what may follow; every state but the last two may also end in them
_NEXT: dict[RecoveryState, frozenset[RecoveryState]] = {
    _S.DETECTED: frozenset((_S.MMIO_ENABLED, _S.LINK_RESET, _S.SLOT_RESET, _S.RESUME)),
    _S.MMIO_ENABLED: frozenset((_S.LINK_RESET, _S.SLOT_RESET, _S.RESUME)),
    _S.LINK_RESET: frozenset((_S.MMIO_ENABLED, _S.SLOT_RESET, _S.RESUME)),
    _S.SLOT_RESET: frozenset((_S.RESUME,)),
    _S.RESUME: frozenset(),
    _S.SUCCESSFUL: frozenset(),
    _S.FAILED: frozenset(),
}
ENDS = frozenset((_S.SUCCESSFUL, _S.FAILED))

_AT = r"([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]): "
_STEPS = (
    (_S.DETECTED, re.compile(_AT + r"(?:AER: )?broadcast error_detected(?:\([a-z ]{1,40}\))? message")),
    (_S.MMIO_ENABLED, re.compile(_AT + r"(?:AER: )?broadcast mmio_enabled message")),
    (_S.SLOT_RESET, re.compile(_AT + r"(?:AER: )?broadcast slot_reset message")),
    (_S.RESUME, re.compile(_AT + r"(?:AER: )?broadcast resume message")),
    (_S.LINK_RESET, re.compile(_AT + r"(?:AER: )?(?:Root|Downstream|Upstream) Port link has been reset")),
    (_S.SUCCESSFUL, re.compile(_AT + r"AER: [Dd]evice recovery successful")),
    (_S.FAILED, re.compile(_AT + r"AER: [Dd]evice recovery failed")),
)
_VETO = re.compile(
    _AT + r"(?:AER: )?(can't recover \([a-z_ ]{1,60}\)|device has no (?:AER-aware )?driver|"
    r"link reset at upstream device \S{1,20} failed|(?:subordinate device|[Bb]us) reset failed)"
)
#: recoveries kept in mind that have no end yet: a log may have been cut where it matters
_MOST_OPEN = 64
#: the link is down after its reset: the status in brackets is an errno
_FAILED_RESET = re.compile(r"link has been reset \(-\d{1,5}\)")


@dataclass(frozen=True, kw_only=True)
class Transition:
    """A state that was entered, and the message that says so."""

    state: RecoveryState
    device: Bdf  #: who said it: the port below which the recovery runs
    record: LogRecord


@dataclass(frozen=True, kw_only=True)
class Veto:
    """A function because of which a recovery fails."""

    device: Bdf
    reason: str
    record: LogRecord


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """One recovery, from its announcement on."""

    port: Bdf  #: the root port that announced the error
    source: Bdf  #: who had it
    severity: ErrorSeverity
    path: tuple[Transition, ...]
    vetoes: tuple[Veto, ...] = ()

    @property
    def state(self) -> RecoveryState:
        """Return the state it is in, or ended in."""
        return self.path[-1].state

    @property
    def ended(self) -> bool:
        """Return whether it is over."""
        return self.state in ENDS

    @property
    def states(self) -> tuple[RecoveryState, ...]:
        """Return the states in their order."""
        return tuple(each.state for each in self.path)

    @property
    def seconds(self) -> float:
        """Return the guest seconds from the announcement to its latest word, by the kernel's stamps."""
        return self.path[-1].record.seconds - self.path[0].record.seconds

    @property
    def bridge(self) -> Bdf:
        """Return the port below which it runs, as far as the log tells."""
        return self.path[-1].device

    @property
    def link_reset_failed(self) -> bool:
        """Return whether the link did not come back from its reset."""
        return any(_FAILED_RESET.search(each.record.text) for each in self.path)

    def __str__(self) -> str:
        return " → ".join(self.states)


@dataclass(frozen=True, kw_only=True)
class RecoveryLog:
    """Every recovery of a log."""

    recoveries: tuple[Recovery, ...]
    unplaced: tuple[LogRecord, ...]  #: steps that fit no recovery: its begin is not in the log


@dataclass(kw_only=True)
class _Open:
    announced: Announcement
    path: list[Transition]
    vetoes: list[Veto] = field(default_factory=list)

    def takes(self, device: Bdf, state: RecoveryState) -> bool:
        """Return whether a step that `device` tells of can be this recovery's next."""
        now = self.path[-1].state
        # what tells it is one port throughout, at or above the source; which, is known from its first word on
        if len(self.path) > 1 and self.path[-1].device != device:
            return False
        entered = {step.state for step in self.path}
        return state in ENDS or (state in _NEXT[now] and state not in entered)

    def value(self) -> Recovery:
        return Recovery(
            port=self.announced.port,
            source=self.announced.source,
            severity=self.announced.severity,
            path=tuple(self.path),
            vetoes=tuple(self.vetoes),
        )


class RecoveryReader:
    """Reads recoveries record by record."""

    def __init__(self) -> None:
        self._all: list[_Open] = []
        #: by root port, the latest last
        self._open: dict[Bdf, _Open] = {}
        self._unplaced: list[LogRecord] = []

    def read(self, record: LogRecord) -> None:
        """Take the next record of the log."""
        announced = parse_announcement(record.text)
        if announced:
            self._begin(announced, record)
        elif veto := _VETO.search(record.text):
            self._veto(Veto(device=Bdf.parse(veto[1]), reason=veto[2], record=record))
        else:
            self._step(record)

    @property
    def log(self) -> RecoveryLog:
        """Return what has been read so far."""
        return RecoveryLog(recoveries=tuple(each.value() for each in self._all), unplaced=tuple(self._unplaced))

    def _begin(self, announced: Announcement, record: LogRecord) -> None:
        if announced.severity is ErrorSeverity.CORRECTABLE:
            return
        first = Transition(state=_S.DETECTED, device=announced.port, record=record)
        recovery = _Open(announced=announced, path=[first])
        self._all.append(recovery)
        # a root port handles one error after the other
        self._open.pop(announced.port, None)
        self._open[announced.port] = recovery
        if len(self._open) > _MOST_OPEN:
            del self._open[next(iter(self._open))]

    def _step(self, record: LogRecord) -> None:
        for state, pattern in _STEPS:
            if match := pattern.search(record.text):
                self._place(Transition(state=state, device=Bdf.parse(match[1]), record=record))
                return

    def _place(self, step: Transition) -> None:
        taker = self._taker(step)
        if taker is None:
            # notifying the drivers is not a state of its own: the announcement was
            if step.state is not _S.DETECTED:
                self._unplaced.append(step.record)
            return
        taker.path.append(step)
        if step.state in ENDS:
            del self._open[taker.announced.port]

    def _taker(self, step: Transition) -> _Open | None:
        takers = [each for each in self._open.values() if each.takes(step.device, step.state)]
        own = [each for each in takers if step.device in (each.announced.port, each.announced.source)]
        begun = [each for each in takers if len(each.path) > 1]
        return next(iter([*own, *begun, *reversed(takers)]), None)

    def _veto(self, veto: Veto) -> None:
        if self._open:
            next(reversed(self._open.values())).vetoes.append(veto)
        else:
            self._unplaced.append(veto.record)


def read_recoveries(records: Iterable[LogRecord]) -> RecoveryLog:
    """Return every recovery in a kernel log."""
    reader = RecoveryReader()
    for record in records:
        reader.read(record)
    return reader.log

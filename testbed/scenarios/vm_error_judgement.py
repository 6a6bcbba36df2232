"""What an error of a host's device means for the VM that has the device, or a function of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.injection import InjectionVerdict
from testbed.guest.tracing import FILE
from testbed.machine.revival import INTERNAL_ERROR
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.recovery import RecoveryState
from testbed.scenarios.passthrough_state import FRAME

if TYPE_CHECKING:
    from testbed.actions.injection import Injection
    from testbed.scenarios.vm_life import VmLife

_WHOLE = "every step, in this order"
#: what the VM has, in words
KINDS = {"vf": "a VF of it", "pf": "it", "sibling": "another function of it", "none": "none of it"}


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """What has become of everything the error could concern."""

    passed: str
    injection: Injection
    pf: Finding | None  #: frames of the PF; None if the host does not drive it
    life: VmLife  #: of the VM, before any remedy
    missing: str  #: the step that the chain lacks; empty if it was not asked for, or lacks none
    chain: tuple[Finding, ...]
    registers: tuple[Finding, ...] = ()  #: of the VM's VF, after the error
    reset: VmLife | None = None  #: of the VM after its reset
    function: Finding | None = None  #: frames of the VM's function; None if it has none, or does not live

    @property
    def recovered(self) -> bool:
        """Return whether the recovery succeeded, or none was needed."""
        recovery = self.injection.recovery
        return recovery is None or recovery.state is RecoveryState.SUCCESSFUL

    @property
    def now(self) -> VmLife:
        """Return the latest that was seen of the VM."""
        return self.reset or self.life


def judge(after: Aftermath, before: list[Finding]) -> Judgement:
    """Judge by the host first, then by the VM; `before` are the findings of the starting state."""
    verdict, outcome = _verdict(after)
    recovery = after.injection.recovery
    host = f"level 1: {recovery.state if recovery else _quiet(after.injection)}"
    if after.pf:
        host += ", its PF works" if after.pf.observed == FRAME else f", its PF does not work: {after.pf.observed}"
    reset = after.reset.findings if after.reset else ()
    return Judgement(
        verdict=verdict,
        outcome=outcome,
        reason=f"{host}; the VM that has {KINDS[after.passed]} {_fate(after)}",
        findings=(
            *before,
            *after.injection.findings,
            *([after.pf] if after.pf else []),
            *after.life.findings,
            *after.registers,
            *_chain_findings(after),
            *reset,
            *([after.function] if after.function else []),
        ),
    )


def _quiet(injection: Injection) -> str:
    """Return why level 1 recovered nothing."""
    heard = injection.verdict is InjectionVerdict.INJECTED
    return "nothing to recover" if heard else f"was told of no error ({injection.verdict}: {injection.reason})"


def _verdict(after: Aftermath) -> tuple[Verdict, str]:
    """Return the verdict and its cause, the host's first: where that did not recover, the VM proves nothing."""
    working = after.function is None or after.function.observed == FRAME
    bad = {
        "recovery-failed": not after.recovered,
        "pf-dead": after.pf is not None and after.pf.observed != FRAME,
        "unexplained": bool(after.missing),
        "stopped": after.now.status == INTERNAL_ERROR,
        # any other run state under QEMU's name for it
        after.now.status: after.now.status not in ("running", INTERNAL_ERROR),
        "dead": not after.now.answers,
        "lost": not working,
    }
    causes = [outcome for outcome, true in bad.items() if true]
    if causes:
        return Verdict.BAD, causes[0]
    return Verdict.GOOD, "revived" if after.reset else "alive"


def _fate(after: Aftermath) -> str:
    """Return what became of the VM, in words."""
    life = after.now
    if not life.alive:
        words = f": {after.life.findings[-1].observed}" if life is after.life else ""
        gap = f" (the chain lacks: {after.missing})" if after.missing else ""
        return (f"is {life.status}" if life.status != "running" else "does not answer") + words + gap
    lives = "was stopped, and runs again after a reset" if after.reset else "survived"
    if after.function is None:
        return lives
    working = after.function.observed == FRAME
    return f"{lives}, and its function works" if working else f"{lives}, but its function: {after.function.observed}"


def _chain_findings(after: Aftermath) -> list[Finding]:
    """Return the steps, and of a VM that was stopped whether they are all there."""
    if after.life.status != INTERNAL_ERROR or not (after.chain or after.missing):
        return list(after.chain)
    observed = f"lacks: {after.missing}" if after.missing else _WHOLE
    whole = Finding(subject="who told whom", expected=_WHOLE, observed=observed, evidence=FILE)
    return [*after.chain, whole]

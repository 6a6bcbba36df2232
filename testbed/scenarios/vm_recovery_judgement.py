"""What a VM's own kernel made of an error, or a reset, of a function that it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.reset_count import NONE
from testbed.guest.recovery import recovery_findings
from testbed.machine.revival import INTERNAL_ERROR
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.recovery import RecoveryState
from testbed.scenarios.aer_judgement import failed_outcome
from testbed.scenarios.passthrough_state import FRAME, inside

if TYPE_CHECKING:
    from testbed.actions.injection import Injection
    from testbed.actions.sriov import Written
    from testbed.model.recovery import Recovery
    from testbed.scenarios.vm_life import VmLife


@dataclass(frozen=True, kw_only=True)
class Course:
    """What was seen, from the stimulus on."""

    passed: bool  #: whether the function is one of level 1's
    injection: Injection | None  #: None if the VM resets the bus of its function
    written: Written | None  #: the VM's request for that reset
    recovery: Recovery | None  #: the VM's own; None if its kernel spoke of none
    life: VmLife
    function: Finding | None  #: frames of the VM's function; None if the VM does not live
    resets: Finding

    @property
    def bad(self) -> tuple[str, str] | None:
        """Return outcome and reason of what went wrong first; None if nothing did."""
        return self._host_failed or self._vm_gone or (self._reset_failed if self.written else self._own_failed)

    @property
    def _host_failed(self) -> tuple[str, str] | None:
        """Return that level 1 did not recover: then the VM proves nothing."""
        recovery = self.injection.recovery if self.passed and self.injection else None
        failed = recovery is not None and recovery.state is not RecoveryState.SUCCESSFUL
        return ("recovery-failed", f"level 1's own recovery: {recovery}") if failed else None

    @property
    def _vm_gone(self) -> tuple[str, str] | None:
        heard = f"had come to {self.recovery}" if self.recovery else "was told of no error"
        if self.life.status == INTERNAL_ERROR:
            return "stopped", f"QEMU stopped the VM ({self.life.status}), and its kernel {heard}"
        if self.life.status != "running":
            return self.life.status, f"the VM is {self.life.status}"
        return None if self.life.answers else ("dead", "the VM does not answer")

    @property
    def _reset_failed(self) -> tuple[str, str] | None:
        if self.written and not self.written.taken:
            return "refused", f"the VM's kernel refused the reset: {self.written.words}"
        if self.passed and self.resets.observed == NONE:
            return "not-carried-out", f"{self.done}, and level 1 has reset nothing"
        return self._lost

    @property
    def _own_failed(self) -> tuple[str, str] | None:
        if self.recovery is None:
            return "untold", "the VM runs, and its kernel was told of no error"
        if not self.recovery.ended:
            return "unfinished", f"the VM's recovery did not end: {self.recovery}"
        if self.recovery.state is RecoveryState.FAILED:
            return failed_outcome(self.recovery), f"the VM's recovery failed: {self.recovery}"
        return self._lost

    @property
    def _lost(self) -> tuple[str, str] | None:
        lost = self.function is not None and self.function.observed != FRAME
        return ("lost", f"{self.done}, but its function: {self.function.observed}") if lost and self.function else None

    @property
    def done(self) -> str:
        """Return what the VM's kernel did, in words."""
        if self.recovery:
            return f"the VM's kernel recovered in {self.recovery.seconds:.2f} s: {self.recovery}"
        return "the VM's kernel has reset the bus of its function"


def judge(course: Course, before: list[Finding]) -> Judgement:
    """Judge by the VM's own recovery; `before` are the findings of the starting state."""
    bad = course.bad
    good = "reset" if course.written else "recovered"
    outcome, reason = bad or (good, f"{course.done}, and its function works")
    return Judgement(
        verdict=Verdict.BAD if bad else Verdict.GOOD,
        outcome=outcome,
        reason=f"{reason} (resets at level 1: {course.resets.observed})",
        findings=(
            *before,
            *_injected(course),
            *([inside(course.written.finding())] if course.written else []),
            *_own(course),
            *course.life.findings,
            course.resets,
            *([course.function] if course.function else []),
        ),
    )


def _injected(course: Course) -> list[Finding]:
    """Return the injection, with level 1's recovery if it was there; the VM's own stands elsewhere."""
    injection = course.injection
    if injection is None or course.passed:
        return injection.findings if injection else []
    return [inside(each.finding(injection.target)) for each in injection.attempts]


def _own(course: Course) -> list[Finding]:
    """Return the VM's own recovery as findings, or that it had none of an error."""
    if course.recovery:
        found = recovery_findings(course.recovery)
        whole = found[0].model_copy(update={"subject": f"the VM's own {found[0].subject}"})
        return [inside(each) for each in (whole, *found[1:])]
    if course.injection is None:
        return []
    subject = "the VM's own recovery"
    return [Finding(subject=subject, expected="… → successful", observed="none", evidence="level2/kernel.log")]

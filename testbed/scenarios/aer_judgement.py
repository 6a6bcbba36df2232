"""What the AER scenarios share: the error that is injected, the devices it concerns, and what its recovery means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.aer import inject
from testbed.actions.injection import InjectionVerdict, Route
from testbed.explain.control import controls
from testbed.explain.evidence import Evidence
from testbed.explain.holder import Holder
from testbed.explain.service import AER
from testbed.explain.suspect import Blame
from testbed.guest.recovery import WAITS, Waits, function_life
from testbed.model.aer import ErrorSeverity
from testbed.model.aer_name import find_record, is_correctable
from testbed.model.cmdline import CommandLine
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.osc import read_bridges
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.model.recovery import RecoveryState
from testbed.scenarios.late_look import looks_after
from testbed.scenarios.starting_state import endpoints

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from testbed.actions.injection import Injection
    from testbed.model.recovery import Recovery
    from testbed.model.spec import Device
    from testbed.scenarios.late_look import Look
    from testbed.scenarios.trial import Trial

_DEFAULTS = {
    ErrorSeverity.CORRECTABLE: "RCVR",
    ErrorSeverity.NON_FATAL: "COMP_ABORT",
    ErrorSeverity.FATAL: "MALF_TLP",
}
#: what the kernel's injector says where nobody in the kernel serves AER
NOBODY = "AER device not found"
ERROR_OPTIONS = {
    "severity": Parameter(
        type="str",
        default="non-fatal",
        choices=[each.value for each in ErrorSeverity],
        doc="severity; the device's severity register is set to match where it has to be",
    ),
    "error": Parameter(type="str", default="", doc="name of the error; by default one of this severity"),
    "route": Parameter(type="str", default="auto", choices=[each.value for each in Route], doc="which injector"),
    "report_seconds": Parameter(
        type="int",
        default=round(WAITS.report),
        min=1,
        max=600,
        doc="guest seconds within which the guest must report it",
    ),
    "recovery_seconds": Parameter(
        type="int", default=round(WAITS.recovery), min=1, max=600, doc="guest seconds that a recovery may take"
    ),
}
DEVICE_OPTION = Parameter(type="str", default="", doc="id of the function to inject into; by default the first device")


def chosen_device(trial: Trial) -> str:
    """Return the id of the function that gets the error; raise UnsupportedError if the machine has none to offer."""
    named = str(trial.options["device"])
    if named:
        return named
    devices = endpoints(trial.spec)
    if not devices:
        raise UnsupportedError("the machine has no cold-plugged device", hint="give it one: -p devices=e1000e")
    return devices[0].id


async def inject_chosen(trial: Trial, device: str, *, then: Callable[[], Awaitable[None]] | None = None) -> Injection:
    """Inject what the scenario's options say; this is the stimulus. `then` is as `inject` has it."""
    severity, name = ErrorSeverity(trial.options["severity"]), error_name(trial)
    trial.stimulus(f"{severity} {name} into {device}")
    route = Route(trial.options["route"])
    waits = chosen_waits(trial)
    return await inject(trial.guest, device, name, route=route, severity=severity, waits=waits, then=then)


def chosen_waits(trial: Trial) -> Waits:
    """Return how long the guest is given for its word and for a recovery."""
    return Waits(report=trial.options["report_seconds"], recovery=trial.options["recovery_seconds"])


def error_name(trial: Trial) -> str:
    """Return the error that the options name, or one of their severity; raise InputError if it does not exist."""
    severity = ErrorSeverity(trial.options["severity"])
    name = str(trial.options["error"]) or _DEFAULTS[severity]
    find_record(name, severity)
    return name


def silent(trial: Trial, injection: Injection) -> Judgement | None:
    """Return the judgement on an error that the guest did not announce; None if it did.

    Raises BrokenError if the error never got as far as a device, which says nothing about the guest.
    """
    if injection.verdict is InjectionVerdict.INJECTED:
        return None
    deaf = injection.reason.startswith(NOBODY)
    if injection.verdict is not InjectionVerdict.NOT_REPORTED and not deaf:
        raise BrokenError(f"injecting {injection.request}: {injection.verdict}: {injection.reason}")
    why, control = _who_has_aer(trial)
    return Judgement(
        verdict=Verdict.BAD,
        outcome="unserved" if control else "unsent" if injection.verdict is InjectionVerdict.NOT_REPORTED else "silent",
        reason=f"the guest did not announce the error: {why or injection.reason}",
        findings=(*injection.findings, *control),
    )


def _who_has_aer(trial: Trial) -> tuple[str, list[Finding]]:
    """Return why Linux does not serve AER, by the rules of `testbed explain`; nothing if it does."""
    guest = trial.guest
    bridges = read_bridges(guest.shell.log.records)
    evidence = Evidence(cmdline=CommandLine(guest.machine.boot.cmdline), bridges=bridges)
    lacking = [each for each in controls(evidence) if each.service == AER.name and each.holder is not Holder.LINUX]
    if not lacking:
        return "", []
    control = lacking[0]
    options = " ".join(suspect.name for suspect in control.suspects if suspect.blame is Blame.OPTION)
    findings = [
        Finding(
            subject="AER is served by", expected=Holder.LINUX, observed=f"{control.holder}: {control.why}", evidence=at
        )
        for at in control.evidence[:1]
    ]
    return f"{control.why}" + (f"; suspect: {options}" if options else ""), findings


async def judge_recovery(trial: Trial, injection: Injection, devices: list[Device]) -> Judgement:
    """Judge by what the recovery came to, and whether the devices work after it."""
    unheard = silent(trial, injection)
    if unheard:
        return unheard
    life = await function_life(trial.guest, injection.target.bdf)
    findings = [*injection.findings, life.finding]
    recovery = injection.recovery
    if recovery and not recovery.ended:
        reason = f"the recovery did not end: {recovery}"
        return Judgement(verdict=Verdict.BAD, outcome="unfinished", reason=reason, findings=tuple(findings))
    looks = await looks_after(trial, devices, since=injection.started)
    findings += [finding for look in looks for finding in look.findings]
    if failed := _failed(injection, looks):
        outcome, reason = failed
        return Judgement(verdict=Verdict.BAD, outcome=outcome, reason=reason, findings=tuple(findings))
    return Judgement(
        verdict=Verdict.GOOD,
        outcome="reported" if is_correctable(injection.error) else "recovered",
        reason=f"{_end_words(injection)}, and everything affected works",
        findings=tuple(findings),
        guest_seconds=round(recovery.seconds, 3) if recovery else None,
    )


def _failed(injection: Injection, looks: Sequence[Look]) -> tuple[str, str] | None:
    """Return outcome and reason of a recovery that failed, or that left something dead; None if all is well."""
    recovery, end = injection.recovery, _end_words(injection)
    dead = [look for look in looks if not look.works]
    late = [look for look in looks if look.works and look.late]
    afterwards = _dead_words([each.observed for each in dead])
    if any(look.blocked for look in dead):
        return "blocked", f"{recovery or end}; {afterwards}"
    if recovery and recovery.state is RecoveryState.FAILED:
        vetoes = ", ".join(f"{veto.device}: {veto.reason}" for veto in recovery.vetoes)
        works = afterwards if dead else late[0].observed if late else "everything affected works all the same"
        return failed_outcome(recovery), f"recovery failed: {vetoes or recovery}; {works}"
    if dead:
        return "dead", f"{end}, but {afterwards}"
    return ("late", f"{end}, but what was affected works only later: {late[0].observed}") if late else None


def failed_outcome(recovery: Recovery) -> str:
    """Return why a recovery failed, in one word: its link did not come back, a driver voted against it, or neither."""
    if RecoveryState.LINK_RESET in recovery.states:
        return "link-lost"
    return "vetoed" if recovery.vetoes else "failed"


def _dead_words(observed: list[str]) -> str:
    return f"afterwards {'; '.join(observed)}"


def _end_words(injection: Injection) -> str:
    recovery = injection.recovery
    if recovery is None:
        return f"announced by the guest ({injection.route} route)"
    return f"recovered in {recovery.seconds:.2f} s: {recovery} ({injection.route} route)"

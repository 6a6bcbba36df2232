"""Scenario deep-switch-aer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.aer import find_target, inject
from testbed.actions.injection import InjectionVerdict, Route
from testbed.guest.device_proof import prove_device
from testbed.guest.recovery import function_life
from testbed.model.aer import ErrorSeverity
from testbed.model.errors import UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.recovery import RecoveryState
from testbed.scenarios.aer_judgement import (
    DEVICE_OPTION,
    ERROR_OPTIONS,
    chosen_device,
    chosen_waits,
    error_name,
)
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import chain, endpoints, prove_all

if TYPE_CHECKING:
    from testbed.actions.injection import Injection
    from testbed.scenarios.trial import Trial

#: root port, upstream port, downstream port, endpoint
_LEVELS = 4


@scenario(options={"device": DEVICE_OPTION, **ERROR_OPTIONS})
async def deep_switch_aer(trial: Trial) -> Judgement:
    """Is an error at each level of a tree of switches reported for the right function, and does recovery succeed?"""
    device = chosen_device(trial)
    levels = list(reversed(chain(trial.spec, device)))
    if len(levels) < _LEVELS:
        raise UnsupportedError(
            f"{device} is {len(levels)} levels deep, {_LEVELS} are needed",
            hint="put it behind a switch: -p topology=switch",
        )
    concerned = endpoints(trial.spec)
    await prove_all(trial, concerned)
    severity, error = ErrorSeverity(trial.options["severity"]), error_name(trial)
    trial.stimulus(f"{severity} {error} into each of {', '.join(levels)}")
    findings: list[Finding] = []
    wrong: list[str] = []
    for level in levels:
        target = await find_target(trial.guest, level)
        route, waits = Route(trial.options["route"]), chosen_waits(trial)
        injection = await inject(trial.guest, level, error, route=route, severity=severity, waits=waits)
        life = await function_life(trial.guest, target.bdf)
        findings += [*injection.findings, life.finding]
        if words := _wrong(injection):
            wrong.append(f"{level}: {words}")
        elif not life.answers:
            wrong.append(f"{level}: does not answer afterwards")
    proofs = [await prove_device(trial.guest, each) for each in concerned]
    findings += [proof.finding for proof in proofs]
    wrong += [f"afterwards {proof.observed}" for proof in proofs if not proof.works]
    if wrong:
        return Judgement(
            verdict=Verdict.BAD, outcome="not-at-every-level", reason="; ".join(wrong), findings=tuple(findings)
        )
    reason = f"announced and recovered at each of {len(levels)} levels: {', '.join(levels)}"
    return Judgement(verdict=Verdict.GOOD, outcome="recovered", reason=reason, findings=tuple(findings))


def _wrong(injection: Injection) -> str:
    """Return what is wrong with one level's error; empty if nothing is."""
    if injection.verdict is not InjectionVerdict.INJECTED:
        return f"{injection.verdict}: {injection.reason}"
    recovery = injection.recovery
    if recovery is None or recovery.state is RecoveryState.SUCCESSFUL:
        return ""
    vetoes = ", ".join(f"{veto.device}: {veto.reason}" for veto in recovery.vetoes)
    return f"recovery {recovery.state}" + (f" ({vetoes})" if vetoes else "")

"""Scenario aer-at-once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.aer import find_target
from testbed.actions.injection import Route
from testbed.actions.volley import inject_at_once
from testbed.guest.device_proof import prove_device
from testbed.model.aer import ErrorSeverity
from testbed.model.errors import UnsupportedError
from testbed.model.outcome import Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.model.recovery import RecoveryState
from testbed.scenarios.aer_judgement import ERROR_OPTIONS, chosen_waits, error_name, silent
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import chain, endpoints, prove_all

if TYPE_CHECKING:
    from testbed.actions.volley import Volley
    from testbed.guest.device_proof import DeviceProof
    from testbed.scenarios.trial import Trial

_OPTIONS = {
    "devices": Parameter(
        type="list", default=[], doc="ids of the functions to inject into; by default the root port of the first device"
    ),
    "count": Parameter(type="int", default=2, min=1, max=1000, doc="how many times into each"),
    **ERROR_OPTIONS,
}


@scenario(options=_OPTIONS)
async def aer_at_once(trial: Trial) -> Judgement:
    """If several functions report errors at the same moment, is the guest told of each, and does it recover?"""
    devices = _chosen(trial)
    for each in devices:
        await find_target(trial.guest, each)
    concerned = endpoints(trial.spec)
    await prove_all(trial, concerned)
    severity, error, count = ErrorSeverity(trial.options["severity"]), error_name(trial), int(trial.options["count"])
    trial.stimulus(f"{severity} {error} into each of {', '.join(devices)}, {count} times at once")
    route, waits = Route(trial.options["route"]), chosen_waits(trial)
    volley = await inject_at_once(trial.guest, devices, error, count=count, route=route, severity=severity, waits=waits)
    unheard = next((each for each in (silent(trial, one) for one in volley.injections) if each), None)
    if unheard:
        return unheard.model_copy(update={"findings": (*unheard.findings, *volley.several)})
    return _judged(volley, [await prove_device(trial.guest, each) for each in concerned])


def _chosen(trial: Trial) -> list[str]:
    """Return the functions that get the error; raise UnsupportedError if the machine has none to offer."""
    named = [str(each) for each in trial.options["devices"]]
    if named:
        return named
    devices = endpoints(trial.spec)
    ports = [chain(trial.spec, each.id)[-1] for each in devices if each.bus]
    if not ports:
        raise UnsupportedError("the machine has no device behind a root port", hint="give it one: -p devices=e1000e")
    return ports[:1]


def _judged(volley: Volley, proofs: list[DeviceProof]) -> Judgement:
    untold = [f"{each.subject}: {each.observed}" for each in volley.several if each.expected != each.observed]
    failed = [
        f"recovery of {each.target} {each.recovery.state}"
        for each in volley.injections
        if each.recovery and each.recovery.state is not RecoveryState.SUCCESSFUL
    ]
    dead = [f"afterwards {proof.observed}" for proof in proofs if not proof.works]
    names = ", ".join(str(each.target) for each in volley.injections)
    ports = ", ".join(f"{each.subject}: {each.observed}" for each in volley.several)
    wrong = [*untold, *failed, *dead]
    counted = sorted({f"{each.subject} {each.observed}" for one in volley.injections for each in one.counters})
    return Judgement(
        verdict=Verdict.BAD if wrong else Verdict.GOOD,
        outcome="untold" if untold else "recovery-failed" if failed else "dead" if dead else "told",
        reason="; ".join(wrong) or f"the guest reported {names};  {ports}; {', '.join(counted)}",
        findings=(
            *(finding for each in volley.injections for finding in each.findings),
            *volley.several,
            *(proof.finding for proof in proofs),
        ),
    )

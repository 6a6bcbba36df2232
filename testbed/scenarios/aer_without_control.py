"""Scenario aer-without-control."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.model.outcome import Judgement, Verdict
from testbed.scenarios.aer_judgement import (
    ERROR_OPTIONS,
    inject_chosen,
    silent,
)
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import chain, endpoints, prove_all

if TYPE_CHECKING:
    from testbed.scenarios.trial import Trial


@scenario(options=ERROR_OPTIONS)
async def aer_without_control(trial: Trial) -> Judgement:
    """Is the guest told of a root port's error, whatever its command line and `_OSC` let it control?"""
    devices = endpoints(trial.spec)
    port = chain(trial.spec, devices[0].id)[-1] if devices else "rp1"
    await prove_all(trial, devices)
    injection = await inject_chosen(trial, port)
    unheard = silent(trial, injection)
    if unheard:
        return unheard
    return Judgement(
        verdict=Verdict.GOOD,
        outcome="announced",
        reason=f"{injection.reason} ({injection.attempts[-1].evidence})",
        findings=tuple(injection.findings),
    )

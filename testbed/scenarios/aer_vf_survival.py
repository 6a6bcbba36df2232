"""Scenario aer-vf-survival."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.guest.vf_link import CarrierWatch, exchange_before
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.model.recovery import RecoveryState
from testbed.scenarios.aer_judgement import ERROR_OPTIONS, inject_chosen, silent
from testbed.scenarios.scenario import scenario
from testbed.scenarios.sriov_state import VF_MODULES, VFS_OPTION, enabled_vfs, pf_device, working_vf

if TYPE_CHECKING:
    from testbed.actions.injection import Injection
    from testbed.guest.vf_link import Exchange
    from testbed.scenarios.trial import Trial

_LIMIT = Parameter(type="int", default=30, min=1, max=600, doc="guest seconds within which a VF must work again")


@scenario(modules=VF_MODULES, options={"vfs": VFS_OPTION, "limit": _LIMIT, **ERROR_OPTIONS})
async def aer_vf_survival(trial: Trial) -> Judgement:
    """Does a VF work again soon after its PF had an error and recovered?"""
    limit = float(trial.options["limit"])
    pf = await enabled_vfs(trial, int(trial.options["vfs"]))
    interface, before = await working_vf(trial, pf.vfs[0])
    async with CarrierWatch(trial.guest, interface) as watch:
        injection = await inject_chosen(trial, pf_device(trial))
        unheard = silent(trial, injection)
        if unheard:
            return unheard
        end = injection.started + limit
        await watch.until_carrier(before=end)
        after = await exchange_before(trial.guest, interface, end=end)
    findings = (before, *injection.findings, _carrier(watch, injection, interface), _traffic(after, interface))
    return _judged(injection, watch, after, findings, limit)


def _judged(
    injection: Injection, watch: CarrierWatch, after: Exchange, findings: tuple[Finding, ...], limit: float
) -> Judgement:
    outage = after.seconds - injection.started
    recovery = injection.recovery
    ended = f"the PF's recovery was {recovery.state}" if recovery else "the error was correctable"
    if after.works and outage <= limit:
        reason = f"{ended}; the VF worked again {outage:.1f} s after the error" if watch.lost else f"{ended}; no outage"
        seconds = round(outage, 3) if watch.lost else 0.0
        return Judgement(
            verdict=Verdict.GOOD, outcome="survived", reason=reason, findings=findings, guest_seconds=seconds
        )
    if after.works:
        outcome, words = "late", f"the VF worked again only {outage:.1f} s after the error"
    else:
        outcome = "no-traffic" if watch.samples[-1].carrier else "no-carrier"
        words = f"the VF has {after.observed} {outage:.0f} s after the error"
    if recovery and recovery.state is not RecoveryState.SUCCESSFUL:
        outcome = "recovery-failed"
    return Judgement(
        verdict=Verdict.BAD,
        outcome=outcome,
        reason=f"{ended}; {words}",
        findings=findings,
        guest_seconds=round(outage, 3),
    )


def _carrier(watch: CarrierWatch, injection: Injection, interface: str) -> Finding:
    """Return when the carrier went and came."""
    lost, last = watch.lost, watch.samples[-1]
    if lost is None:
        return Finding(
            subject=f"carrier of {interface}", expected="there", observed="never lost", evidence=last.evidence
        )
    words = f"lost {lost.seconds - injection.started:.1f} s after the error, "
    words += "back" if last.carrier else "still lost"
    words += f" {last.seconds - injection.started:.1f} s after it"
    return Finding(subject=f"carrier of {interface}", expected="back", observed=words, evidence=last.evidence)


def _traffic(after: Exchange, interface: str) -> Finding:
    return Finding(
        subject=f"traffic of {interface} afterwards",
        expected="a frame that comes back",
        observed=after.observed,
        evidence=after.evidence,
    )

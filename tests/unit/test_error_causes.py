"""Verdicts on an error's consequences: each cause has an outcome of its own, and none passes for another."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from testbed.actions.injection import InjectionVerdict
from testbed.guest.vf_link import CarrierWatch, Exchange, Sample
from testbed.model.outcome import Finding, Verdict
from testbed.model.recovery import RecoveryState
from testbed.scenarios import aer_vf_survival
from testbed.scenarios.passthrough_obstacle import refusal_outcome
from testbed.scenarios.passthrough_state import FRAME
from testbed.scenarios.vm_error_judgement import Aftermath, judge
from testbed.scenarios.vm_life import VmLife


def frames(observed: str = FRAME) -> Finding:
    return Finding(subject="frames", expected=FRAME, observed=observed, evidence="shell.jsonl:1")


def injected(state: RecoveryState | None = RecoveryState.SUCCESSFUL) -> Any:
    recovery = SimpleNamespace(state=state) if state else None
    return SimpleNamespace(recovery=recovery, findings=[], verdict=InjectionVerdict.INJECTED, reason="")


def life(status: str = "running", *, answers: bool = True) -> VmLife:
    return VmLife(status=status, answers=answers and status == "running", findings=(frames(),))


LIVES = Aftermath(passed="vf", injection=injected(), pf=frames(), life=life(), missing="", chain=(), function=frames())
STOPPED = replace(LIVES, life=life("internal-error"), function=None)


@pytest.mark.parametrize(
    ("after", "outcome"),
    [
        (LIVES, "alive"),
        (STOPPED, "stopped"),
        (replace(STOPPED, injection=injected(RecoveryState.FAILED)), "recovery-failed"),
        (replace(LIVES, injection=injected(RecoveryState.RESUME)), "recovery-failed"),
        (replace(LIVES, injection=injected(None)), "alive"),
        (replace(STOPPED, pf=frames("no carrier")), "pf-dead"),
        (replace(STOPPED, missing="QEMU reads the eventfd"), "unexplained"),
        (replace(STOPPED, life=life("guest-panicked")), "guest-panicked"),
        (replace(LIVES, life=life(answers=False), function=None), "dead"),
        (replace(LIVES, function=frames("no carrier")), "lost"),
        (replace(STOPPED, reset=life(), function=frames()), "revived"),
        (replace(STOPPED, reset=life("internal-error")), "stopped"),
        (replace(STOPPED, reset=life(), function=frames("no network interface")), "lost"),
    ],
)
def test_a_vm_that_does_not_live_on_says_why(after: Aftermath, outcome: str) -> None:
    judgement = judge(after, [])
    assert judgement.outcome == outcome
    assert (judgement.verdict is Verdict.GOOD) == (outcome in ("alive", "revived"))


def test_an_error_of_which_nobody_heard_is_no_recovery() -> None:
    silent = SimpleNamespace(
        recovery=None, findings=[], verdict=InjectionVerdict.NOT_REPORTED, reason="Device Control has no bit for it"
    )
    judgement = judge(replace(LIVES, injection=silent), [])  # type: ignore[arg-type]
    assert (judgement.verdict, judgement.outcome) == (Verdict.GOOD, "alive")
    assert "was told of no error (not-reported: Device Control has no bit for it)" in judgement.reason
    assert "nothing to recover" in judge(replace(LIVES, injection=injected(None)), []).reason


@pytest.mark.parametrize(
    ("missing", "observed"),
    [("", "every step, in this order"), ("QEMU reads the eventfd", "lacks: QEMU reads the eventfd")],
)
def test_a_chain_that_was_asked_for_is_judged_as_a_whole(missing: str, observed: str) -> None:
    step = Finding(subject="who told whom, 1", expected="x", observed="x", evidence="trace.txt:1")
    findings = judge(replace(STOPPED, chain=(step,), missing=missing), []).findings
    assert {each.subject: each.observed for each in findings}["who told whom"] == observed
    assert "who told whom" not in {each.subject for each in judge(STOPPED, []).findings}


def function(
    name: str = "VF", *, works: bool = True, seconds: float = 3.0, carrier: bool = True, back_at: float = 2.0
) -> Any:
    lost, now = (Sample(seconds=at, carrier=there, evidence="x") for at, there in ((1.0, False), (back_at, carrier)))
    return aer_vf_survival._Function(
        name=name,
        interface="eth0",
        watch=SimpleNamespace(lost=lost, back=now if carrier else None, samples=[lost, now]),  # type: ignore[arg-type]
        after=Exchange(works=works, seconds=seconds, observed="carrier, no frame", evidence="x"),
        since=0.0,
    )


PF = function("PF")


@pytest.mark.parametrize(
    ("state", "pf", "vf", "outcome"),
    [
        (RecoveryState.SUCCESSFUL, PF, function(), "survived"),
        (None, PF, function(), "survived"),
        (RecoveryState.FAILED, PF, function(), "recovery-failed"),
        (RecoveryState.RESUME, PF, function(), "recovery-failed"),
        (RecoveryState.SUCCESSFUL, function("PF", works=False), function(), "pf-dead"),
        (RecoveryState.SUCCESSFUL, function("PF", works=False), function(works=False), "pf-dead"),
        # it worked too late: what counts is what it lacked when its time was up
        (RecoveryState.SUCCESSFUL, PF, function(seconds=11.0), "no-traffic"),
        (RecoveryState.SUCCESSFUL, PF, function(seconds=11.0, back_at=10.5), "no-carrier"),
        (RecoveryState.SUCCESSFUL, PF, function(works=False), "no-traffic"),
        (RecoveryState.SUCCESSFUL, PF, function(works=False, carrier=False), "no-carrier"),
    ],
)
def test_a_vf_survives_only_if_its_pf_recovered_and_works(
    state: RecoveryState | None, pf: Any, vf: Any, outcome: str
) -> None:
    findings = (frames(), *pf.findings, *vf.findings)
    judgement = aer_vf_survival._judged(injected(state), pf, vf, findings, 10.0)
    assert judgement.outcome == outcome
    assert (judgement.verdict is Verdict.GOOD) == (outcome == "survived")


def obstacle(subject: str, observed: str) -> Finding:
    return Finding(subject=subject, expected="as it should be", observed=observed, evidence="x")


@pytest.mark.parametrize(
    ("subjects", "outcome"),
    [
        (["its IOMMU group", "interrupt remapping"], "no-group"),
        (["drivers in its group"], "group-in-use"),
        (["who has its group open"], "group-open"),
        (["interrupt remapping"], "no-remapping"),
        (["driver of 0000:01:00.0"], "refused"),
        ([], "refused"),
    ],
)
def test_a_refusal_is_told_by_what_stands_in_the_way(subjects: list[str], outcome: str) -> None:
    clear = obstacle("who has its group open", "as it should be")
    assert refusal_outcome([clear, *(obstacle(each, "not so") for each in subjects)]) == outcome


@pytest.mark.parametrize(
    ("carriers", "lost", "back"),
    [
        ([True, True], None, 0),
        ([True, False, False], 1, None),
        ([True, False, True, True], 1, 2),
        ([True, False, True, False, True], 1, 4),
        ([True, False, True, False], 1, None),
    ],
)
def test_a_carrier_is_back_from_the_first_sample_after_which_it_stayed(
    carriers: list[bool], lost: int | None, back: int | None
) -> None:
    watch = CarrierWatch(None, "eth0")  # type: ignore[arg-type]
    watch.samples = [Sample(seconds=at, carrier=there, evidence="x") for at, there in enumerate(carriers)]
    assert (watch.lost, watch.back) == tuple(None if at is None else watch.samples[at] for at in (lost, back))

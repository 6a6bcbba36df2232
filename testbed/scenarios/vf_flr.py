"""Scenario vf-flr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.sriov import pf_of, reset_function
from testbed.guest.vf_link import await_carrier, exchange, interface_at
from testbed.model.errors import UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.load import start_interface_load
from testbed.scenarios.load_kinds import Fate
from testbed.scenarios.scenario import scenario
from testbed.scenarios.sriov_state import (
    READY_SECONDS,
    VF_MODULES,
    VFS_OPTION,
    check_vfs,
    differing,
    enabled_vfs,
    pf_device,
    working_vf,
)

if TYPE_CHECKING:
    from testbed.guest.sriov import PfInGuest
    from testbed.scenarios.trial import Trial

_TRAFFIC = "traffic of VF 0"
_WHOM = Parameter(type="str", default="vf", choices=["vf", "pf"], doc="which function is reset")


@scenario(
    loads=("net",), modules=VF_MODULES, patience=round(READY_SECONDS), options={"vfs": VFS_OPTION, "function": _WHOM}
)
async def vf_flr(trial: Trial) -> Judgement:
    """Does a function-level reset leave all VFs in place, and does the VF work afterwards?"""
    count = int(trial.options["vfs"])
    pf = await enabled_vfs(trial, count)
    vf = pf.vfs[0]
    whom = pf.bdf if trial.options["function"] == "pf" else vf.bdf
    if "flr" not in vf.reset_methods.split():
        raise UnsupportedError(f"VF {vf.bdf} has no FLR: its reset methods are {vf.reset_methods or 'none'}")
    interface = await interface_at(trial.guest, vf.bdf)
    if interface:
        await working_vf(trial, vf)
    load = await start_interface_load(trial, interface)
    await load.mark()
    trial.stimulus(f"echo 1 > {whom.sysfs}/reset")
    written = await reset_function(trial.guest, whom)
    if not written.taken:
        return Judgement(verdict=Verdict.BAD, outcome="refused", reason=written.words, findings=(written.finding(),))
    now = await pf_of(trial.guest, pf_device(trial))
    findings = [written.finding(), *check_vfs(now, count), _enabled(now)]
    if interface:
        findings.append(await _traffic(trial, now))
    wrong = differing(findings)
    reason = "; ".join(f"{each.subject}: {each.observed}" for each in wrong)
    judgement = Judgement(
        verdict=Verdict.BAD if wrong else Verdict.GOOD,
        outcome=_outcome(now, wrong, count),
        reason=reason or f"{whom} was reset in {written.seconds:.2f} s; every VF is in its place",
        findings=tuple(findings),
        guest_seconds=round(written.seconds, 3),
    )
    return await load.judged(judgement, Fate.DISTURBED)


def _outcome(pf: PfInGuest, wrong: list[Finding], count: int) -> str:
    if not wrong:
        return "reset"
    if pf.sriov.num_vfs != count or not pf.sriov.vf_enable:
        return "vfs-gone"
    return "no-traffic" if all(each.subject.startswith(_TRAFFIC) for each in wrong) else "misplaced"


def _enabled(pf: PfInGuest) -> Finding:
    """Say whether the PF's register still has the VFs switched on: a reset of the PF clears it."""
    on = pf.sriov.vf_enable and pf.sriov.vf_memory
    observed = f"{'on' if on else 'off'} ({pf.sriov.control:#06x})"
    return Finding(subject="VF Enable and VF MSE of the PF", expected="on", observed=observed, evidence=pf.evidence)


async def _traffic(trial: Trial, pf: PfInGuest) -> Finding:
    interface = await interface_at(trial.guest, pf.vfs[0].bdf) if pf.vfs else ""
    if not interface:
        return Finding(subject=_TRAFFIC, expected="carrier", observed="no network interface", evidence=pf.evidence)
    await await_carrier(trial.guest, interface, seconds=trial.deadline)
    answer = await exchange(trial.guest, interface)
    observed = answer.observed if answer.works else f"does not work: {answer.observed}"
    return Finding(subject=f"{_TRAFFIC} ({interface})", expected="carrier", observed=observed, evidence=answer.evidence)

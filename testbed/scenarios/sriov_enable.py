"""Scenario sriov-enable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.sriov import pf_of, set_autoprobe, set_vfs
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.scenario import scenario
from testbed.scenarios.sriov_state import VF_MODULES, VFS_OPTION, check_vfs, differing, pf_device, ready_pf

if TYPE_CHECKING:
    from testbed.guest.sriov import PfInGuest
    from testbed.scenarios.trial import Trial

_OPTIONS = {
    "vfs": VFS_OPTION,
    "autoprobe": Parameter(
        type="bool", default=True, doc="whether drivers may bind to the VFs (sriov_drivers_autoprobe)"
    ),
    "own_groups": Parameter(
        type="bool", default=False, doc="whether each function must have an IOMMU group of its own"
    ),
}
_DRIVERS, _IOMMU_GROUPS = "drivers of the VFs", "IOMMU groups"
#: the outcome where this alone is not as expected; anything else is out of place
_OUTCOMES = {_DRIVERS: "bound", _IOMMU_GROUPS: "shared-group"}


@scenario(modules=VF_MODULES, options=_OPTIONS)
async def sriov_enable(trial: Trial) -> Judgement:
    """Do as many VFs as requested appear, at the addresses and with the BARs that the PF's registers give them?"""
    count, autoprobe = int(trial.options["vfs"]), bool(trial.options["autoprobe"])
    pf = await ready_pf(trial)
    await set_autoprobe(trial.guest, pf.bdf, on=autoprobe)
    trial.stimulus(f"echo {count} > {pf.bdf.sysfs}/sriov_numvfs")
    written = await set_vfs(trial.guest, pf.bdf, count)
    findings = [written.finding()]
    if not written.taken:
        reason = f"the kernel refused {count} VFs (the PF can have {pf.total}): {written.words}"
        return Judgement(verdict=Verdict.BAD, outcome="refused", reason=reason, findings=tuple(findings))
    pf = await pf_of(trial.guest, pf_device(trial))
    findings += [*check_vfs(pf, count), *_binding(pf, autoprobe=autoprobe)]
    if trial.options["own_groups"]:
        findings.append(_groups(pf))
    wrong = differing(findings)
    if wrong:
        reason = "; ".join(f"{each.subject}: {each.observed}, expected {each.expected}" for each in wrong)
        outcome = _OUTCOMES.get(wrong[0].subject, "misplaced") if len(wrong) == 1 else "misplaced"
        return Judgement(verdict=Verdict.BAD, outcome=outcome, reason=reason, findings=tuple(findings))
    return Judgement(
        verdict=Verdict.GOOD,
        outcome="enabled",
        reason=f"{count} VFs in {written.seconds:.2f} s: {', '.join(str(vf.bdf) for vf in pf.vfs)}{_group_words(pf)}",
        findings=tuple(findings),
        guest_seconds=round(written.seconds, 3),
    )


def _binding(pf: PfInGuest, *, autoprobe: bool) -> list[Finding]:
    """Say whether drivers left the VFs alone where they were told to."""
    if autoprobe:
        return []
    bound = [f"{vf.bdf} to {vf.driver}" for vf in pf.vfs if vf.driver]
    observed = f"bound: {', '.join(bound)}" if bound else "none bound"
    return [Finding(subject=_DRIVERS, expected="none bound", observed=observed, evidence=pf.evidence)]


def _groups(pf: PfInGuest) -> Finding:
    """Say whether every function has an IOMMU group of its own."""
    groups = pf.groups
    own = all(groups.values()) and len(set(groups.values())) == len(groups)
    observed = ", ".join(f"{bdf} in {group or 'none'}" for bdf, group in groups.items())
    return Finding(
        subject=_IOMMU_GROUPS,
        expected="one each",
        observed=f"one each: {observed}" if own else observed,
        evidence=pf.evidence,
    )


def _group_words(pf: PfInGuest) -> str:
    return f"; IOMMU groups {', '.join(pf.groups.values())}" if pf.group else ""

"""Scenario pf-unbind: a PF loses its driver while it has VFs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.sriov import set_vfs, write
from testbed.guest.sriov import read_pf
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.scenarios.scenario import scenario
from testbed.scenarios.sriov_state import VF_MODULES, VFS_OPTION, enabled_vfs

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.guest.sriov import PfInGuest
    from testbed.scenarios.trial import Trial


@scenario(modules=VF_MODULES, options={"vfs": VFS_OPTION})
async def pf_unbind(trial: Trial) -> Judgement:
    """Do a PF's VFs disappear with its driver, and if not, what removes them?"""
    guest = trial.guest
    pf = await enabled_vfs(trial, int(trial.options["vfs"]))
    await guest.shell.catch_up()
    position = guest.shell.log.latest
    trial.stimulus(f"{pf.bdf} off {pf.driver}")
    unbound = await write(guest, pf.bdf, "driver/unbind", str(pf.bdf))
    left = await _vfs_left(guest, pf)
    findings = [unbound.finding(), left]
    if left.observed == left.expected:
        reason = f"the VFs went with {pf.driver}"
        return Judgement(verdict=Verdict.GOOD, outcome="gone", reason=reason, findings=tuple(findings))
    await guest.shell.catch_up()
    said = guest.shell.log.find("left SR-IOV enabled", after=position)
    findings += [
        Finding(subject="the kernel", expected="nothing", observed=each.text, evidence=each.reference) for each in said
    ]
    refused = await set_vfs(guest, pf.bdf, 0)
    await guest.act(f"echo {pf.bdf} > /sys/bus/pci/drivers/{pf.driver}/bind")
    taken = await set_vfs(guest, pf.bdf, 0)
    back = taken.finding()
    findings += [
        refused.finding(),
        back.model_copy(update={"subject": f"{back.subject}, with {pf.driver} again"}),
        (await _vfs_left(guest, pf)).model_copy(update={"subject": f"VFs, with {pf.driver} again"}),
    ]
    helped = "removes them" if findings[-1].observed == "none" else "does not remove them"
    reason = f"{left.observed} stay without {pf.driver}; {refused.words or 'taken'}; binding it again {helped}"
    return Judgement(verdict=Verdict.BAD, outcome="left", reason=reason, findings=tuple(findings))


async def _vfs_left(guest: Guest, before: PfInGuest) -> Finding:
    """Say which VFs are there."""
    now = await read_pf(guest, before.bdf)
    names = ", ".join(str(vf.bdf) for vf in now.vfs) if now else ""
    evidence = now.evidence if now else before.evidence
    return Finding(subject="VFs, without the driver", expected="none", observed=names or "none", evidence=evidence)

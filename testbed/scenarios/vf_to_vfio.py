"""Scenario vf-to-vfio: vfio-pci is told of one VF, by its ids or by its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.passthrough import VFIO, bound_to, check_group
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.scenario import scenario
from testbed.scenarios.sriov_state import VF_MODULES, differing, enabled_vfs

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.guest.sriov import PfInGuest
    from testbed.scenarios.trial import Trial

_VFIO_FILES = f"/sys/bus/pci/drivers/{VFIO}"
_TAKEN, _NONE = "taken", "none"
#: guest seconds in which nvme gives up VFs that have no queues
_GIVES_UP_SECONDS = 20.0


@scenario(
    modules=(*VF_MODULES, "vfio_pci", "vfio_iommu_type1"),
    options={
        "by": Parameter(
            type="str",
            default="new_id",
            choices=["new_id", "driver_override"],
            doc="how vfio-pci is told about the VF: by its ids, or by its address",
        )
    },
)
async def vf_to_vfio(trial: Trial) -> Judgement:
    """Does vfio-pci get the one VF that it is told about, and no other function?"""
    guest = trial.guest
    pf = await enabled_vfs(trial, 2)
    vf = pf.vfs[0]
    check_group(vf.bdf, vf.group)
    for each in pf.vfs:
        await _free(guest, each.bdf.sysfs)
    ids = f"echo {vf.vendor:04x} {vf.device:04x} > {_VFIO_FILES}"
    by_ids = trial.options["by"] == "new_id"
    override = f"echo {VFIO} > {vf.bdf.sysfs}/driver_override && echo {vf.bdf} > /sys/bus/pci/drivers_probe"
    line = f"{ids}/new_id" if by_ids else override
    trial.stimulus(line)
    findings = [await _written(guest, line, "vfio-pci told about the VF"), *await _drivers(guest, pf)]
    wrong = differing(findings)
    if by_ids:
        findings += [
            await _written(guest, f"{ids}/new_id", "the same ids once more"),
            await _written(guest, f"{ids}/remove_id && {ids}/new_id", "the same ids once more, after remove_id"),
        ]
    reason = "; ".join(f"{each.subject}: {each.observed}" for each in wrong)
    return Judgement(
        verdict=Verdict.BAD if wrong else Verdict.GOOD,
        outcome="others-too" if wrong else "one",
        reason=reason or f"vfio-pci has {vf.bdf} and nothing else",
        findings=tuple(findings),
    )


async def _free(guest: Guest, folder: str) -> None:
    """Leave a VF without a driver: igb's is unbound, nvme's gives up by itself."""
    gone = await guest.shell.wait_path(f"{folder}/driver", exists=False, seconds=_GIVES_UP_SECONDS)
    if not gone.came:
        await guest.act(f"echo {folder.rpartition('/')[2]} > {folder}/driver/unbind")


async def _written(guest: Guest, line: str, subject: str) -> Finding:
    guest.machine.journal.step("guest", line)
    result = await guest.shell.run(line)
    observed = _TAKEN if result.status == 0 else result.error.rpartition(": ")[2]
    return Finding(subject=subject, expected=_TAKEN, observed=observed, evidence=result.evidence)


async def _drivers(guest: Guest, pf: PfInGuest) -> list[Finding]:
    """Say who has the VF, the other VF and the PF."""
    wanted = {pf.vfs[0].bdf: VFIO, pf.vfs[1].bdf: _NONE, pf.bdf: pf.driver}
    bounds = [await bound_to(guest, bdf) for bdf in wanted]
    return [
        Finding(
            subject=f"driver of {each.bdf}",
            expected=wanted[each.bdf],
            observed=each.driver or _NONE,
            evidence=each.evidence,
        )
        for each in bounds
    ]

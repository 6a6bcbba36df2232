"""Scenario vf-held-by-process: a host wants a VF back that one of its processes has through VFIO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.passthrough import VFIO, bind, check_group
from testbed.actions.sriov import set_autoprobe
from testbed.actions.vfio_holder import hold
from testbed.model.parameter import Parameter
from testbed.scenarios.held_function import REQUEST, SECONDS, SIGNAL, WayOut, judge_request
from testbed.scenarios.scenario import scenario
from testbed.scenarios.sriov_state import VF_MODULES, enabled_vfs, ready_pf

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial

_ANSWERS = ("deaf", "lets-go", "reads")


@scenario(
    modules=(*VF_MODULES, "vfio_pci", "vfio_iommu_type1"),
    options={
        "request": REQUEST,
        "answer": Parameter(
            type="str",
            default="deaf",
            choices=list(_ANSWERS),
            doc="what the holder does when asked for the VF: never notices, releases it, or reads sriov_numvfs first",
        ),
        "signal": SIGNAL,
        "seconds": SECONDS,
    },
)
async def vf_held_by_process(trial: Trial) -> Judgement:
    """Does a host get a VF back that a process of its own has through VFIO?"""
    guest = trial.guest
    pf = (await ready_pf(trial)).bdf
    await set_autoprobe(guest, pf, on=False)
    vf = (await enabled_vfs(trial, 1)).vfs[0]
    check_group(vf.bdf, vf.group)
    bound = await bind(guest, vf.bdf, VFIO)
    answer = str(trial.options["answer"])
    path = f"{pf.sysfs}/sriov_numvfs" if answer == "reads" else ""
    holder = await hold(guest, bound, answer, path=path)
    return await judge_request(trial, pf, bound, WayOut(name="kill -9 of the holder", take=holder.kill))

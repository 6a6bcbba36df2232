"""Scenario vf-held-by-vm: a host wants a VF, or a PF, back that a VM has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.passthrough import bound_to
from testbed.guest.pci import address_of
from testbed.model.parameter import Parameter
from testbed.scenarios.held_function import REQUEST, SECONDS, SIGNAL, WayOut, judge_request
from testbed.scenarios.passthrough_state import HOST_MODULES, PF, VM, give, make_vf, vm_of
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial


@scenario(
    modules=HOST_MODULES,
    level2=VM,
    options={
        "request": REQUEST,
        "passed": Parameter(type="str", default="vf", choices=["vf", "pf"], doc="the function that the VM has"),
        "paused": Parameter(type="bool", default=True, doc="whether the VM is stopped, so that it cannot release it"),
        "signal": SIGNAL,
        "seconds": SECONDS,
    },
)
async def vf_held_by_vm(trial: Trial) -> Judgement:
    """Can a host take back a function that its VM holds?"""
    host, vm = trial.guest, vm_of(trial)
    pf = await address_of(host.machine, PF)
    function = pf if trial.options["passed"] == "pf" else await make_vf(host)
    await give(host, vm, function)
    if trial.options["paused"]:
        await vm.machine.qmp.execute("stop")
    way_out = WayOut(name="cont of the VM", take=lambda: vm.machine.qmp.execute("cont"))
    return await judge_request(trial, pf, await bound_to(host, function), way_out)

"""Scenario vf-to-vm: a VF leaves its host's driver for a VM, works there, and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.passthrough import VFIO, bind, bound_to, release
from testbed.actions.sriov import reset_function
from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.pci import address_of
from testbed.guest.vf_link import interface_at
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.passthrough_state import (
    HOST_MODULES,
    LINK_SECONDS,
    PASSED,
    PF,
    VM,
    give,
    make_vf,
    proven,
    traffic,
    vm_of,
    vm_traffic,
)
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf
    from testbed.scenarios.trial import Trial

_HOST_DRIVER = "igbvf"
_BACK = "driver at the host, afterwards"
#: of the PF and of the VM's VF; nothing else has them
_PF_ADDRESS, _VM_ADDRESS = "192.0.2.1", "192.0.2.2"


@scenario(
    modules=HOST_MODULES,
    level2=VM,
    patience=LINK_SECONDS,
    options={
        "flr": Parameter(type="bool", default=True, doc="whether the VM resets the function in between"),
        "override": Parameter(
            type="str", default="cleared", choices=["cleared", "left"], doc="driver_override after the return"
        ),
    },
)
async def vf_to_vm(trial: Trial) -> Judgement:
    """Can a VF move from its host's driver to a VM and back, and does it work at each step?"""
    host, vm = trial.guest, vm_of(trial)
    vf = await make_vf(host, autoprobe=True)
    await host.load_modules(_HOST_DRIVER)
    await bind(host, vf, _HOST_DRIVER)
    before = proven(await traffic(host, vf, "VF at the host, before"))
    trial.stimulus(f"VF {vf} from {_HOST_DRIVER} to the VM and back")
    findings = [before, *await _visit(trial, vm, vf)]
    if trial.options["override"] == "left":
        await host.act(f"echo {vf} > {vf.sysfs}/driver/unbind; echo {vf} > /sys/bus/pci/drivers_probe")
        bound = await bound_to(host, vf)
    else:
        bound = await release(host, vf)
    findings.append(_finding(_BACK, _HOST_DRIVER, bound.driver or "none", bound.evidence))
    if bound.driver == _HOST_DRIVER:
        findings.append(await traffic(host, vf, "VF at the host, afterwards", seconds=trial.deadline))
    wrong = [each for each in findings if each.observed != each.expected]
    lost = [each for each in wrong if each.subject == _BACK]
    return Judgement(
        verdict=Verdict.BAD if wrong else Verdict.GOOD,
        outcome="returned" if not wrong else "lost" if wrong == lost else "dead",
        reason="; ".join(f"{each.subject}: {each.observed}" for each in wrong)
        or f"VF {vf} works at the host, in the VM and at the host again",
        findings=tuple(findings),
    )


async def _visit(trial: Trial, vm: Guest, vf: Bdf) -> list[Finding]:
    """Have the VM take the VF, use it, reset it and give it up; return what was seen."""
    host = trial.guest
    trial.progress("into the VM")
    await give(host, vm, vf)
    bound = await bound_to(host, vf)
    place = await address_of(vm.machine, PASSED)
    findings = [
        _finding("driver at the host, while the VM has it", VFIO, bound.driver, bound.evidence),
        await vm_traffic(vm, "VF in the VM", seconds=trial.deadline),
        await _ping(host, vm, place),
    ]
    if trial.options["flr"]:
        written = await reset_function(vm, place)
        findings += [
            _finding(
                "FLR in the VM", "taken", "taken" if written.taken else written.words, f"level2/{written.evidence}"
            ),
            await vm_traffic(vm, "VF in the VM, after its FLR", seconds=trial.deadline),
        ]
    trial.progress("out of the VM")
    gone = await unplug(vm, PASSED)
    settled = gone.findings[0].evidence
    return [*findings, _finding("unplug", UnplugOutcome.DELETED, gone.outcome, f"level2/{settled}")]


async def _ping(host: Guest, vm: Guest, place: Bdf) -> Finding:
    """Return whether the VM reaches the host's PF through the card."""
    pf = await interface_at(host, await address_of(host.machine, PF))
    vf = await interface_at(vm, place)
    await host.act(f"ip address add {_PF_ADDRESS}/24 dev {pf}")
    await vm.act(f"ip address add {_VM_ADDRESS}/24 dev {vf}")
    result = await vm.shell.run(f"ping -c 5 -W 2 {_PF_ADDRESS}")
    observed = "an answer" if result.status == 0 else (result.text.splitlines() or [result.error])[-1]
    return _finding("ping from the VM to the PF", "an answer", observed, f"level2/{result.evidence}")


def _finding(subject: str, expected: str, observed: str, evidence: str) -> Finding:
    return Finding(subject=subject, expected=expected, observed=observed, evidence=evidence)

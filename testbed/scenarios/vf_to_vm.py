"""Scenario vf-to-vm: a VF leaves its host's driver for a VM, works there, and comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.passthrough import VFIO, bind, bound_to, release
from testbed.actions.sriov import reset_function
from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.pci import address_of
from testbed.guest.vf_link import await_carrier, exchange, interface_at
from testbed.model.errors import BrokenError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.passthrough_state import HOST_MODULES, PASSED, PF, VM, give, make_vf, vm_of
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf
    from testbed.scenarios.trial import Trial

_HOST_DRIVER = "igbvf"
#: guest seconds a driver may take to have a link
_LINK_SECONDS = 40.0
#: of the PF and of the VM's VF; nothing else has them
_PF_ADDRESS, _VM_ADDRESS = "192.0.2.1", "192.0.2.2"
_WORKS = "a frame that comes back"


@scenario(
    modules=HOST_MODULES,
    level2=VM,
    options={
        "flr": Parameter(type="bool", default=True, doc="whether the VM resets the function while it has it"),
        "override": Parameter(
            type="str", default="cleared", choices=["cleared", "left"], doc="what becomes of driver_override at the end"
        ),
    },
)
async def vf_to_vm(trial: Trial) -> Judgement:
    """Can a VF move from its host's driver to a VM and back, and does it work at every station?"""
    host, vm = trial.guest, vm_of(trial)
    vf = await make_vf(host, autoprobe=True)
    await host.load_modules(_HOST_DRIVER)
    await bind(host, vf, _HOST_DRIVER)
    before = await _link(host, vf, "at the host, before")
    if before.observed != _WORKS:
        raise BrokenError(f"starting state: VF {vf} does not work at the host: {before.observed} ({before.evidence})")
    trial.stimulus(f"VF {vf} from {_HOST_DRIVER} to the VM and back")
    findings = [before, *await _visit(trial, vm, vf)]
    if trial.options["override"] == "left":
        await host.act(f"echo {vf} > {vf.sysfs}/driver/unbind; echo {vf} > /sys/bus/pci/drivers_probe")
        bound = await bound_to(host, vf)
    else:
        bound = await release(host, vf)
    findings.append(_finding("driver at the host, afterwards", _HOST_DRIVER, bound.driver or "none", bound.evidence))
    if bound.driver == _HOST_DRIVER:
        findings.append(await _link(host, vf, "at the host, afterwards"))
    wrong = [each for each in findings if each.observed != each.expected]
    return Judgement(
        verdict=Verdict.BAD if wrong else Verdict.GOOD,
        outcome="lost" if wrong else "returned",
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
        _inside(await _link(vm, place, "in the VM")),
        await _ping(host, vm, place),
    ]
    if trial.options["flr"]:
        written = await reset_function(vm, place)
        findings += [
            _finding(
                "FLR in the VM", "taken", "taken" if written.taken else written.words, f"level2/{written.evidence}"
            ),
            _inside(await _link(vm, place, "in the VM, after its FLR")),
        ]
    trial.progress("out of the VM")
    gone = await unplug(vm, PASSED)
    settled = gone.findings[0].evidence
    return [*findings, _finding("unplug", UnplugOutcome.DELETED, gone.outcome, f"level2/{settled}")]


async def _link(guest: Guest, bdf: Bdf, where: str) -> Finding:
    """Return whether the function has a link and a frame that the network's gateway answers."""
    subject = f"VF {where}"
    interface = await interface_at(guest, bdf)
    if not interface:
        return _finding(subject, _WORKS, "no network interface", "shell.jsonl")
    sample = await await_carrier(guest, interface, seconds=_LINK_SECONDS)
    seen = await exchange(guest, interface) if sample.carrier else None
    observed = _WORKS if seen and seen.works else seen.observed if seen else "no carrier"
    return _finding(subject, _WORKS, observed, seen.evidence if seen else sample.evidence)


async def _ping(host: Guest, vm: Guest, place: Bdf) -> Finding:
    """Return whether the VM reaches the host's PF through the card."""
    pf = await interface_at(host, await address_of(host.machine, PF))
    vf = await interface_at(vm, place)
    await host.act(f"ip address add {_PF_ADDRESS}/24 dev {pf}")
    await vm.act(f"ip address add {_VM_ADDRESS}/24 dev {vf}")
    result = await vm.shell.run(f"ping -c 5 -W 2 {_PF_ADDRESS}")
    observed = "an answer" if result.status == 0 else (result.text.splitlines() or [result.error])[-1]
    return _finding("ping from the VM to the PF", "an answer", observed, f"level2/{result.evidence}")


def _inside(finding: Finding) -> Finding:
    """Return a finding of the VM's with its evidence as the cell's rundir has it."""
    return finding.model_copy(update={"evidence": f"level2/{finding.evidence}"})


def _finding(subject: str, expected: str, observed: str, evidence: str) -> Finding:
    return Finding(subject=subject, expected=expected, observed=observed, evidence=evidence)

"""Scenario function-to-vm: a host's function is given to a running VM, and the obstacles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import add_device
from testbed.actions.passthrough import VFIO, bind, bound_to, group_of, vfio_device
from testbed.guest.pci import address_of
from testbed.model.errors import BrokenError, RefusedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.passthrough_obstacle import UNSAFE, obstacles, refusal_outcome
from testbed.scenarios.passthrough_state import BIND_SECONDS, HOST_MODULES, PASSED, PF, PORT, VM, vm_of
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from testbed.actions.passthrough import Bound
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf
    from testbed.scenarios.trial import Trial

#: guest seconds until a process has opened the group
_OPEN_SECONDS = 10.0
#: the host's own words on it: who says them
_KERNEL = "vfio|iommu"


@scenario(
    modules=HOST_MODULES,
    level2=VM,
    patience=round(BIND_SECONDS),
    options={
        "group": Parameter(
            type="str",
            default="bound",
            choices=["bound", "left"],
            doc="other functions of its IOMMU group: bound to vfio-pci too, or left to their drivers",
        ),
        "held": Parameter(type="bool", default=False, doc="whether another process has the group open"),
        "unsafe": Parameter(
            type="bool",
            default=False,
            doc="whether to allow vfio without interrupt remapping (allow_unsafe_interrupts)",
        ),
    },
)
async def function_to_vm(trial: Trial) -> Judgement:
    """Can a function of the host be hot-plugged into a running VM?"""
    host, vm = trial.guest, vm_of(trial)
    function = await address_of(host.machine, PF)
    members = await group_of(host, function) or (function,)
    if trial.options["unsafe"]:
        await host.act(f"echo Y > {UNSAFE}")
    await host.shell.catch_up()
    position = host.shell.log.latest
    others = [each for each in members if each != function]
    if trial.options["group"] == "left" and not others:
        raise BrokenError(f"starting state: {function} is alone in its group: -p devices=e1000e,e1000e -p functions=2")
    trial.stimulus(f"{function} from its driver to the VM")
    for each in () if trial.options["group"] == "left" else others:
        await _try_to_bind(host, each)
    bound = await _try_to_bind(host, function)
    driver = Finding(
        subject=f"driver of {function}", expected=VFIO, observed=bound.driver or "none", evidence=bound.evidence
    )
    if trial.options["held"]:
        await _hold(host, bound.group)
    return await _judge(trial, vm, function, [driver, *await obstacles(host, function)], position)


async def _try_to_bind(host: Guest, function: Bdf) -> Bound:
    """Bind a function to vfio-pci if that takes it; return who drives it then."""
    try:
        return await bind(host, function, VFIO)
    except BrokenError:
        return await bound_to(host, function)


async def _hold(host: Guest, group: str) -> None:
    """Have another process of the host's open the group, as another VM would."""
    mark = "/run/held"
    await host.shell.start(f"exec 3<>/dev/vfio/{group} && touch {mark} && exec sleep 100000")
    if not (await host.shell.wait_path(mark, exists=True, seconds=_OPEN_SECONDS)).came:
        raise BrokenError(f"starting state: /dev/vfio/{group} could not be opened")


async def _judge(trial: Trial, vm: Guest, function: Bdf, findings: list[Finding], position: int) -> Judgement:
    """Plug it into the VM; say whether its driver has it there, or the words of QEMU and of the host's kernel."""
    reply = Finding(subject="QEMU's reply", expected="taken", observed="taken", evidence="level2/qmp.jsonl")
    try:
        await add_device(vm.machine, vfio_device(function, device_id=PASSED, bus=PORT))
    except RefusedError as refusal:
        words, at = " ".join(refusal.description.split()), f"level2/{refusal.evidence}"
        outcome = refusal_outcome(findings)
        findings.append(reply.model_copy(update={"observed": words, "evidence": at}))
        await trial.guest.shell.catch_up()
        messages = trial.guest.shell.log.find(_KERNEL, after=position)
        findings += [_kernel(record.text, record.reference) for record in messages]
        verdict = Verdict.BAD
        reason = f"QEMU refused: {words}" + (f"; level 1's kernel: {messages[-1].text}" if messages else "")
    else:
        place = await address_of(vm.machine, PASSED)
        bound = await vm.shell.wait_path(f"{place.sysfs}/driver", exists=True, seconds=trial.deadline)
        driven = "has a driver" if bound.came else "has no driver"
        findings += [
            reply.model_copy(update={"evidence": f"level2/{vm.machine.qmp.last_reply}"}),
            Finding(
                subject="the function in the VM",
                expected="has a driver",
                observed=driven,
                evidence=f"level2/{bound.evidence}",
            ),
        ]
        verdict, outcome = (Verdict.GOOD, "taken") if bound.came else (Verdict.BAD, "undriven")
        reason = f"{function} is in the VM and {driven}"
    return Judgement(verdict=verdict, outcome=outcome, reason=reason, findings=tuple(findings))


def _kernel(text: str, evidence: str) -> Finding:
    return Finding(subject="level 1's kernel", expected="nothing", observed=text, evidence=evidence)

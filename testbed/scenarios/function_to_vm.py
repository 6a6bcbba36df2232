"""Scenario function-to-vm: a host's function is given to a VM, and the obstacles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.passthrough import VFIO, bind, bound_to, group_of
from testbed.actions.vfio_holder import ended_within, hold
from testbed.guest.pci import address_of
from testbed.model.errors import BrokenError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.function_offer import PLUG, offer
from testbed.scenarios.passthrough_obstacle import UNSAFE, obstacles, refusal_outcome
from testbed.scenarios.passthrough_state import BIND_SECONDS, HOST_MODULES, PF, VM
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from testbed.actions.passthrough import Bound
    from testbed.guest.guest import Guest
    from testbed.guest.shell import Command
    from testbed.model.pci import Bdf
    from testbed.scenarios.function_offer import Answer
    from testbed.scenarios.trial import Trial

_WAY_OUT = "kill -9 of the holder"
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
        "held": Parameter(type="bool", default=False, doc="whether another process has the function through VFIO"),
        "plug": PLUG,
        "unsafe": Parameter(
            type="bool",
            default=False,
            doc="whether to allow vfio without interrupt remapping (allow_unsafe_interrupts)",
        ),
    },
)
async def function_to_vm(trial: Trial) -> Judgement:
    """Can a function of the host be given to a VM?"""
    host = trial.guest
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
    holder = await hold(host, bound, "deaf") if trial.options["held"] else None
    findings = [driver, *await obstacles(host, function)]
    answer = await offer(trial, function)
    if answer.taken:
        return _judge_taken(function, findings, answer)
    judgement = await _judge_refused(trial, function, findings, answer, position)
    return await _after_holder(trial, function, holder, judgement) if holder else judgement


async def _try_to_bind(host: Guest, function: Bdf) -> Bound:
    """Bind a function to vfio-pci if that takes it; return who drives it then."""
    try:
        return await bind(host, function, VFIO)
    except BrokenError:
        return await bound_to(host, function)


def _judge_taken(function: Bdf, findings: list[Finding], answer: Answer) -> Judgement:
    """Judge a function that QEMU took: good if the VM drives it."""
    return Judgement(
        verdict=Verdict.GOOD if answer.driven else Verdict.BAD,
        outcome="taken" if answer.driven else "undriven",
        reason=f"{function} is in the VM and {answer.findings[-1].observed}",
        findings=(*findings, *answer.findings),
    )


async def _judge_refused(
    trial: Trial, function: Bdf, findings: list[Finding], answer: Answer, position: int
) -> Judgement:
    """Judge a function that QEMU refused: by what stands in the way, with the host kernel's words on it."""
    host = trial.guest
    await host.shell.catch_up()
    messages = host.shell.log.find(_KERNEL, after=position)
    said = [_kernel(record.text, record.reference) for record in messages]
    kernel = f"; level 1's kernel: {messages[-1].text}" if messages else ""
    return Judgement(
        verdict=Verdict.BAD,
        outcome=refusal_outcome(findings),
        reason=f"{function} is not in the VM: {answer.reply}{kernel}",
        findings=(*findings, *answer.findings, *said),
    )


async def _after_holder(trial: Trial, function: Bdf, holder: Command, judgement: Judgement) -> Judgement:
    """Add what becomes of the same request once the process is gone that had the function."""
    await holder.kill()
    await ended_within(trial.guest, holder, trial.deadline)
    again = await offer(trial, function, when=f", after: {_WAY_OUT}", nth=2)
    reason = f"{judgement.reason}; after {_WAY_OUT}: {again.reply}"
    return judgement.model_copy(update={"reason": reason, "findings": (*judgement.findings, *again.findings)})


def _kernel(text: str, evidence: str) -> Finding:
    return Finding(subject="level 1's kernel", expected="nothing", observed=text, evidence=evidence)

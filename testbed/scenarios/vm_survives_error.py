"""Scenario vm-survives-error: an error of a host's device, and the VM that has the device or one of its VFs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed.actions.aer import inject
from testbed.actions.error_chain import EVENTS, FUNCTIONS, chain_findings, error_chain
from testbed.actions.hotplug import add_device
from testbed.actions.injection import InjectionVerdict, Route
from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.pci import address_of
from testbed.guest.reset import reset
from testbed.guest.tracing import read_trace, tracing
from testbed.model.errors import BedError, BrokenError, UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.passthrough_state import (
    BIND_SECONDS,
    HOST_MODULES,
    PASSED,
    PF,
    SIBLING,
    VM,
    give,
    make_vf,
    vm_of,
)
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.actions.injection import Injection
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf
    from testbed.model.spec import Device
    from testbed.scenarios.trial import Trial

#: what is injected for each severity: completer abort, malformed TLP, bad TLP
_ERRORS = {"nonfatal": "COMP_ABORT", "fatal": "MALF_TLP", "correctable": "BAD_TLP"}
_HEADER = (0, 1, 2, 3)
_BOUND = "bound to a driver"
#: wall seconds in which a VM that lives answers
_ANSWER_SECONDS = 30.0
_KINDS = {"vf": "a VF of it", "pf": "it", "sibling": "another function of it", "none": "none of it"}


@dataclass(frozen=True, kw_only=True)
class _Life:
    """What is seen of the VM after the error."""

    status: str  #: QEMU's run state
    answers: bool
    findings: tuple[Finding, ...]

    @property
    def alive(self) -> bool:
        return self.status == "running" and self.answers


def _lasts(options: Mapping[str, Any]) -> float:
    """Return about how long it takes: a VM that is reset boots anew."""
    return 16.0 if options["remedy"] == "reset" else 5.0


@scenario(
    modules=HOST_MODULES,
    level2=VM,
    lasts=_lasts,
    options={
        "passed": Parameter(
            type="str",
            default="vf",
            choices=list(_KINDS),
            doc="what the VM has: a VF, the whole function, another function of the same device, or nothing of it",
        ),
        "severity": Parameter(type="str", default="nonfatal", choices=list(_ERRORS), doc="of the error on the PF"),
        "remedy": Parameter(
            type="str",
            default="none",
            choices=["none", "unplug", "unbind", "reset"],
            doc="unplug: taken out of the VM before the error, put back afterwards; unbind: the VM's driver is taken "
            "off it before; reset: the VM is reset afterwards",
        ),
        "trace": Parameter(
            type="bool", default=False, doc="whether to show who told whom, by ftrace; takes some seconds"
        ),
    },
)
async def vm_survives_error(trial: Trial) -> Judgement:
    """Does a VM with a passed-through PCI function live on when the function's device reports an error?"""
    vm, passed, remedy = vm_of(trial), trial.options["passed"], trial.options["remedy"]
    pf = await address_of(trial.guest.machine, PF)
    device = await _pass(trial, pf, passed)
    if remedy == "unplug":
        await _take_out(vm)
    elif remedy == "unbind":
        await _unbind(vm)
    heard = vm.shell.log.latest
    async with contextlib.AsyncExitStack() as stack:
        if trial.options["trace"]:
            await stack.enter_async_context(tracing(trial.guest, filters=EVENTS, functions=FUNCTIONS))
        injection = await _injected(trial, pf)
    chain = chain_findings(error_chain(read_trace(trial.guest.machine.rundir), vm.machine.process.pid))
    life = await _look(vm, heard)
    after: list[Finding] = []
    if remedy == "reset" and not life.alive:
        after = list(life.findings)
        await _reset(vm)
        life = await _look(vm, heard)
    if remedy != "none" and device and life.alive:
        after.append(await _put_back(vm, device, plug=remedy == "unplug"))
    return _judge(injection, life, passed, [*chain, *after])


async def _pass(trial: Trial, pf: Bdf, passed: str) -> Device | None:
    """Give the VM what it is to have."""
    trial.progress("giving the VM its function")
    if passed == "none":
        return None
    function = await make_vf(trial.guest) if passed == "vf" else pf
    if passed == "sibling":
        if not any(device.id == SIBLING for device in trial.spec.devices):
            raise UnsupportedError("the machine has no second function", hint="-p devices=e1000e,e1000e -p functions=2")
        function = await address_of(trial.guest.machine, SIBLING)
    return await give(trial.guest, vm_of(trial), function)


async def _injected(trial: Trial, pf: Bdf) -> Injection:
    """Inject the error; raise BrokenError if the host did not announce it."""
    severity = trial.options["severity"]
    trial.stimulus(f"{severity} error on {PF} ({pf})")
    injection = await inject(trial.guest, PF, _ERRORS[severity], route=Route.GUEST, header=_HEADER)
    if injection.verdict is not InjectionVerdict.INJECTED:
        raise BrokenError(f"injecting into {PF}: {injection.verdict}: {injection.reason}")
    return injection


async def _take_out(vm: Guest) -> None:
    """Have the VM give up the function."""
    if (outcome := (await unplug(vm, PASSED)).outcome) is not UnplugOutcome.DELETED:
        raise BrokenError(f"taking {PASSED} out of the VM: {outcome}")


async def _unbind(vm: Guest) -> None:
    """Take the VM's driver off the function, which stays in the VM."""
    place = await address_of(vm.machine, PASSED)
    await vm.act(f"echo {place} > {place.sysfs}/driver/unbind")


async def _reset(vm: Guest) -> None:
    """Reset the VM, let it run and load its drivers anew."""
    async with reset(vm):
        pass
    await vm.load_modules(*VM.modules)


async def _put_back(vm: Guest, device: Device, *, plug: bool) -> Finding:
    """Return whether the VM's driver has the function, given to it again if it was taken out."""
    if plug:
        await add_device(vm.machine, device)
    place = await address_of(vm.machine, PASSED)
    if not plug:
        await vm.shell.run(f"[ -e {place.sysfs}/driver ] || echo {place} > /sys/bus/pci/drivers_probe")
    bound = await vm.shell.wait_path(f"{place.sysfs}/driver", exists=True, seconds=BIND_SECONDS)
    return Finding(
        subject="the function, afterwards",
        expected=_BOUND,
        observed=_BOUND if bound.came else "no driver",
        evidence=f"level2/{bound.evidence}",
    )


async def _look(vm: Guest, heard: int) -> _Life:
    """Look whether the VM runs and answers, and what it has said of an error since the message numbered `heard`."""
    status = await vm.machine.qmp.execute("query-status")
    state = Finding(
        subject="VM's run state",
        expected="running",
        observed=status["status"],
        evidence=f"level2/{vm.machine.qmp.last_reply}",
    )
    answers, answer = False, "it is not running"
    if status["status"] == "running":
        try:
            result = await vm.shell.run("echo alive", patience=_ANSWER_SECONDS)
            answers, answer = result.status == 0, f"answered {result.text}"
        except BedError as error:
            answer = error.message
    said = [record.text for record in vm.shell.log.find("AER|error", after=heard)]
    findings = (
        state,
        Finding(subject="VM's shell", expected="answers", observed=answer, evidence="level2/shell.jsonl"),
        Finding(
            subject="VM's kernel log on the error",
            expected="nothing",
            observed="; ".join(said) or "nothing",
            evidence="level2/kernel.log",
        ),
        Finding(
            subject="level 1's QEMU", expected="nothing", observed=_said(vm) or "nothing", evidence="level2/qemu.log"
        ),
    )
    return _Life(status=status["status"], answers=answers, findings=findings)


def _said(vm: Guest) -> str:
    """Return what level 1's QEMU said."""
    log = vm.machine.rundir / "qemu.log"
    return " ".join(log.read_text(errors="replace").split()) if log.exists() else ""


def _judge(injection: Injection, life: _Life, passed: str, after: list[Finding]) -> Judgement:
    lost = any(finding.subject.startswith("the function") and finding.observed != _BOUND for finding in after)
    recovery = injection.recovery
    host = f"level 1: {recovery.state}" if recovery else "level 1: nothing to recover"
    lives = "lives on, but its function has no driver" if lost else "lives on"
    vm = lives if life.alive else f"is {life.status}" if life.status != "running" else "does not answer"
    return Judgement(
        verdict=Verdict.GOOD if life.alive and not lost else Verdict.BAD,
        outcome="lost" if lost else "alive" if life.alive else "stopped" if life.status != "running" else "dead",
        reason=f"{host}; the VM that has {_KINDS[passed]} {vm}"
        + (f": {life.findings[-1].observed}" if not life.alive else ""),
        findings=(*injection.findings, *life.findings, *after),
    )

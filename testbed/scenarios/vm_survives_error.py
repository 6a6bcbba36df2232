"""Scenario vm-survives-error: an error of a host's device, and the VM that has the device or one of its VFs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from testbed.actions.aer import inject
from testbed.actions.error_chain import EVENTS, FUNCTIONS, chain_findings, error_chain, missing_step
from testbed.actions.hotplug import add_device
from testbed.actions.injection import InjectionVerdict, Route
from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.pci import address_of
from testbed.guest.reset import reset
from testbed.guest.tracing import read_trace, tracing
from testbed.model.errors import BedError, BrokenError, UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.model.recovery import RecoveryState
from testbed.scenarios.passthrough_state import (
    BIND_SECONDS,
    FRAME,
    HOST_MODULES,
    PASSED,
    PF,
    SIBLING,
    VM,
    give,
    inside,
    make_vf,
    proven,
    traffic,
    vm_of,
    vm_traffic,
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
_PF_AFTER, _VM_AFTER = "the PF at level 1, afterwards", "the function in the VM, afterwards"
#: QEMU's run state after vfio's error notifier: hw/vfio/pci.c, vfio_err_notifier_handler()
_STOPPED = "internal-error"
#: messages of the VM's kernel that a finding shows
_MOST_MESSAGES = 20
#: wall seconds in which a VM that lives answers
_ANSWER_SECONDS = 30.0
_KINDS = {"vf": "a VF of it", "pf": "it", "sibling": "another function of it", "none": "none of it"}


@dataclass(frozen=True, kw_only=True)
class _Life:
    """What is seen of the VM at one moment after the error."""

    status: str  #: QEMU's run state
    answers: bool
    findings: tuple[Finding, ...]

    @property
    def alive(self) -> bool:
        return self.status == "running" and self.answers


@dataclass(frozen=True, kw_only=True)
class _After:
    """What has become of everything the error could concern."""

    passed: str
    injection: Injection
    pf: Finding | None  #: frames of the PF; None if the host does not drive it
    life: _Life  #: of the VM, before any remedy
    missing: str  #: the step that the chain lacks; empty if it was not asked for, or lacks none
    chain: tuple[Finding, ...]
    reset: _Life | None = None  #: of the VM after its reset
    function: Finding | None = None  #: frames of the VM's function; None if it has none, or does not live

    @property
    def recovered(self) -> bool:
        recovery = self.injection.recovery
        return recovery is None or recovery.state is RecoveryState.SUCCESSFUL

    @property
    def now(self) -> _Life:
        return self.reset or self.life


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
            type="bool", default=False, doc="whether to judge who told whom, by ftrace; takes some seconds"
        ),
    },
)
async def vm_survives_error(trial: Trial) -> Judgement:
    """Does a VM with a passed-through PCI function live on when the function's device reports an error?"""
    host, vm = trial.guest, vm_of(trial)
    passed, remedy = trial.options["passed"], trial.options["remedy"]
    pf = await address_of(host.machine, PF)
    device = await _pass(trial, pf, passed)
    before = await _working(trial, pf, device)
    if remedy == "unplug":
        await _take_out(vm)
    elif remedy == "unbind":
        await _unbind(vm)
    await vm.shell.catch_up()
    position = vm.shell.log.latest
    async with contextlib.AsyncExitStack() as stack:
        if trial.options["trace"]:
            await stack.enter_async_context(tracing(host, filters=EVENTS, functions=FUNCTIONS))
        injection = await _injected(trial, pf)
    life = await _look(vm, position)
    steps = error_chain(read_trace(host.machine.rundir), vm.machine.process.pid)
    missing = missing_step(steps, host_driver=_has_pf(passed)) if trial.options["trace"] else ""
    after = _After(
        passed=passed,
        injection=injection,
        pf=await traffic(host, pf, _PF_AFTER) if _has_pf(passed) else None,
        life=life,
        missing=missing if life.status == _STOPPED else "",
        chain=tuple(chain_findings(steps)),
    )
    return _judge(await _remedied(vm, after, remedy, device), before)


def _has_pf(passed: str) -> bool:
    """Return whether the function that gets the error is driven by the host."""
    return passed in ("vf", "none")


async def _remedied(vm: Guest, after: _After, remedy: str, device: Device | None) -> _After:
    """Apply what comes after the error, and look whether the VM's function works."""
    if remedy == "reset":
        if after.life.status != _STOPPED:
            raise BrokenError(f"the VM was not stopped ({after.life.status}), so a reset is no remedy")
        await _reset(vm)
        after = replace(after, reset=await _look(vm, vm.shell.log.latest, when=", after the reset"))
    if device is None or not after.now.alive:
        return after
    if remedy == "unplug":
        await add_device(vm.machine, device)
    return replace(after, function=await _function(vm))


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


async def _working(trial: Trial, pf: Bdf, device: Device | None) -> list[Finding]:
    """Return that the PF and the VM's function carry frames; raise BrokenError if one does not."""
    findings = []
    if _has_pf(trial.options["passed"]):
        findings.append(proven(await traffic(trial.guest, pf, "the PF at level 1, before")))
    if device:
        findings.append(proven(await vm_traffic(vm_of(trial), "the function in the VM, before")))
    return findings


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


async def _function(vm: Guest) -> Finding:
    """Return whether the VM's function works, with its driver bound if it was taken off."""
    place = await address_of(vm.machine, PASSED)
    if (await vm.shell.wait_path(place.sysfs, exists=True, seconds=BIND_SECONDS)).came:
        await vm.shell.run(f"[ -e {place.sysfs}/driver ] || echo {place} > /sys/bus/pci/drivers_probe")
        await vm.shell.wait_path(f"{place.sysfs}/driver", exists=True, seconds=BIND_SECONDS)
    return await vm_traffic(vm, _VM_AFTER)


async def _look(vm: Guest, position: int, *, when: str = "") -> _Life:
    """Look whether the VM runs and answers, and what its kernel has said since the message numbered `position`."""
    status = (await vm.machine.qmp.execute("query-status"))["status"]
    state = Finding(
        subject=f"VM's run state{when}", expected="running", observed=status, evidence=vm.machine.qmp.last_reply
    )
    answers, answer = False, "it is not running"
    if status == "running":
        try:
            result = await vm.shell.run("echo alive", patience=_ANSWER_SECONDS)
            answers, answer = result.status == 0, f"answered {result.text}"
            await vm.shell.catch_up()
        except BedError as error:
            answer = error.message
    shell = Finding(subject=f"VM's shell{when}", expected="answers", observed=answer, evidence="shell.jsonl")
    findings = (state, shell, *([] if when else [_kernel_words(vm, position), _qemu_words(vm)]))
    return _Life(status=status, answers=answers, findings=tuple(map(inside, findings)))


def _kernel_words(vm: Guest, position: int) -> Finding:
    """Show what the VM's kernel said since the message numbered `position`, whatever it is of."""
    records = [record for record in vm.shell.log.records if record.sequence > position]
    messages = [record.text for record in records[:_MOST_MESSAGES]]
    more = [f"{len(records) - _MOST_MESSAGES} more"] if len(records) > _MOST_MESSAGES else []
    return Finding(
        subject="VM's kernel, since the error",
        expected="whatever it is, as it is",
        observed="; ".join([*messages, *more]) or "nothing",
        evidence=records[0].reference if records else "kernel.log",
    )


def _qemu_words(vm: Guest) -> Finding:
    """Show what level 1's QEMU said."""
    log = vm.machine.rundir / "qemu.log"
    words = " ".join(log.read_text(errors="replace").split()) if log.exists() else ""
    return Finding(subject="level 1's QEMU", expected="nothing", observed=words or "nothing", evidence="qemu.log")


def _judge(after: _After, before: list[Finding]) -> Judgement:
    verdict, outcome = _verdict(after)
    recovery = after.injection.recovery
    host = f"level 1: {recovery.state}" if recovery else "level 1: nothing to recover"
    if after.pf:
        host += ", its PF works" if after.pf.observed == FRAME else f", its PF does not work: {after.pf.observed}"
    reset = after.reset.findings if after.reset else ()
    return Judgement(
        verdict=verdict,
        outcome=outcome,
        reason=f"{host}; the VM that has {_KINDS[after.passed]} {_fate(after)}",
        findings=(
            *before,
            *after.injection.findings,
            *([after.pf] if after.pf else []),
            *after.life.findings,
            *after.chain,
            *_missing_findings(after),
            *reset,
            *([after.function] if after.function else []),
        ),
    )


def _verdict(after: _After) -> tuple[Verdict, str]:
    """Return the verdict and its cause, the host's first: where that did not recover, the VM proves nothing."""
    working = after.function is None or after.function.observed == FRAME
    bad = {
        "recovery-failed": not after.recovered,
        "pf-dead": after.pf is not None and after.pf.observed != FRAME,
        "unexplained": bool(after.missing),
        "stopped": after.now.status == _STOPPED,
        # any other run state under QEMU's name for it
        after.now.status: after.now.status not in ("running", _STOPPED),
        "dead": not after.now.answers,
        "lost": not working,
    }
    causes = [outcome for outcome, true in bad.items() if true]
    if causes:
        return Verdict.BAD, causes[0]
    return Verdict.GOOD, "revived" if after.reset else "alive"


def _fate(after: _After) -> str:
    """Return what became of the VM, in words."""
    life = after.now
    if not life.alive:
        said = f": {after.life.findings[-1].observed}" if life is after.life else ""
        gap = f" (the chain lacks: {after.missing})" if after.missing else ""
        return (f"is {life.status}" if life.status != "running" else "does not answer") + said + gap
    lives = "was stopped, and lives on after a reset" if after.reset else "lives on"
    if after.function is None:
        return lives
    working = after.function.observed == FRAME
    return f"{lives}, and its function works" if working else f"{lives}, but its function: {after.function.observed}"


def _missing_findings(after: _After) -> list[Finding]:
    if not after.missing:
        return []
    return [Finding(subject="who told whom", expected=after.missing, observed="not in the trace", evidence="trace.txt")]

"""Scenario vm-survives-error: an error of a host's device, and the VM that has the device or one of its VFs."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from testbed.actions.aer import inject
from testbed.actions.error_chain import EVENTS, FUNCTIONS, chain_findings, error_chain, missing_step
from testbed.actions.hotplug import add_device
from testbed.actions.injection import InjectionVerdict, Route
from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.pci import address_of
from testbed.guest.reset import reset
from testbed.guest.tracing import read_trace, tracing
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.parameter import Parameter
from testbed.scenarios.passthrough_state import (
    BIND_SECONDS,
    HOST_MODULES,
    LINK_SECONDS,
    PASSED,
    PF,
    SIBLING,
    VM,
    give,
    make_vf,
    proven,
    traffic,
    vm_of,
    vm_traffic,
)
from testbed.scenarios.scenario import scenario
from testbed.scenarios.vm_error_judgement import KINDS, Aftermath, judge
from testbed.scenarios.vm_life import STOPPED, look

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.actions.injection import Injection
    from testbed.guest.guest import Guest
    from testbed.model.outcome import Finding, Judgement
    from testbed.model.pci import Bdf
    from testbed.model.spec import Device
    from testbed.scenarios.trial import Trial

#: what is injected for each severity: completer abort, malformed TLP, bad TLP
_ERRORS = {"nonfatal": "COMP_ABORT", "fatal": "MALF_TLP", "correctable": "BAD_TLP"}
_HEADER = (0, 1, 2, 3)
_PF_AFTER, _VM_AFTER = "the PF at level 1, afterwards", "the function in the VM, afterwards"


def _lasts(options: Mapping[str, Any]) -> float:
    """Return about how long it takes: a VM that is reset boots anew."""
    return 16.0 if options["remedy"] == "reset" else 5.0


@scenario(
    modules=HOST_MODULES,
    level2=VM,
    lasts=_lasts,
    patience=LINK_SECONDS,
    options={
        "passed": Parameter(
            type="str",
            default="vf",
            choices=list(KINDS),
            doc="what the VM has: a VF, the whole function, another function of the same device, or nothing of it",
        ),
        "severity": Parameter(type="str", default="nonfatal", choices=list(_ERRORS), doc="of the error on the PF"),
        "remedy": Parameter(
            type="str",
            default="none",
            choices=["none", "unplug", "unbind", "reset"],
            doc="unplug: take it out of the VM before the error, and put it back afterwards; unbind: unbind the VM's "
            "driver before the error; reset: reset the VM afterwards",
        ),
        "trace": Parameter(
            type="bool", default=False, doc="trace the error's path with ftrace and judge it; takes a few seconds"
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
    life = await look(vm, position)
    steps = error_chain(read_trace(host.machine.rundir), vm.machine.process.pid)
    missing = missing_step(steps, host_driver=_has_pf(passed)) if trial.options["trace"] else ""
    after = Aftermath(
        passed=passed,
        injection=injection,
        pf=await traffic(host, pf, _PF_AFTER, seconds=trial.deadline) if _has_pf(passed) else None,
        life=life,
        missing=missing if life.status == STOPPED else "",
        chain=tuple(chain_findings(steps)),
    )
    return judge(await _remedied(trial, after, device), before)


def _has_pf(passed: str) -> bool:
    """Return whether the function that gets the error is driven by the host."""
    return passed in ("vf", "none")


async def _remedied(trial: Trial, after: Aftermath, device: Device | None) -> Aftermath:
    """Apply what comes after the error, and look whether the VM's function works."""
    vm, remedy = vm_of(trial), trial.options["remedy"]
    if remedy == "reset":
        if after.life.status != STOPPED:
            raise BrokenError(f"the VM was not stopped ({after.life.status}), so a reset is no remedy")
        await _reset(vm)
        after = replace(after, reset=await look(vm, vm.shell.log.latest, when=", after the reset"))
    if device is None or not after.now.alive:
        return after
    if remedy == "unplug":
        await add_device(vm.machine, device)
    return replace(after, function=await _function(vm, seconds=trial.deadline))


async def _pass(trial: Trial, pf: Bdf, passed: str) -> Device | None:
    """Give the VM its function."""
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


async def _function(vm: Guest, *, seconds: float) -> Finding:
    """Return whether the VM's function works, with its driver bound if it was taken off."""
    place = await address_of(vm.machine, PASSED)
    if (await vm.shell.wait_path(place.sysfs, exists=True, seconds=BIND_SECONDS)).came:
        await vm.shell.run(f"[ -e {place.sysfs}/driver ] || echo {place} > /sys/bus/pci/drivers_probe")
        await vm.shell.wait_path(f"{place.sysfs}/driver", exists=True, seconds=BIND_SECONDS)
    return await vm_traffic(vm, _VM_AFTER, seconds=seconds)

"""Scenario vm-survives-error: an error of a host's device, and the VM that has the device or one of its VFs."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from testbed.actions.aer import inject
from testbed.actions.error_chain import EVENTS, FUNCTIONS, chain_findings, error_chain, missing_step
from testbed.actions.hotplug import add_device
from testbed.actions.injection import InjectionVerdict, Route
from testbed.guest.pci import address_of
from testbed.guest.tracing import read_trace, tracing
from testbed.machine.revival import INTERNAL_ERROR
from testbed.model.errors import BrokenError, InputError, UnsupportedError
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
from testbed.scenarios.port_closing import CLOSING, close_ports, vf_registers
from testbed.scenarios.scenario import scenario
from testbed.scenarios.vm_error_judgement import KINDS, Aftermath, judge
from testbed.scenarios.vm_error_remedies import (
    REMEDIES,
    RESETS,
    Watcher,
    mask,
    reset_vm,
    take_out,
    unbind,
    unbind_pf,
)
from testbed.scenarios.vm_life import look

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
    return 16.0 if options["remedy"] in RESETS else 5.0


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
            doc="what the VM has: a VF, the whole function, another function of the same device, or none of it",
        ),
        "at": Parameter(
            type="str",
            default="function",
            choices=["function", "port"],
            doc="what has the error: the function, by the kernel's injector, or the root port above it, by QEMU's",
        ),
        "severity": Parameter(type="str", default="nonfatal", choices=list(_ERRORS), doc="of the error"),
        "remedy": Parameter(
            type="str",
            default="none",
            choices=list(REMEDIES),
            doc="; ".join(f"{name}: {what}" for name, what in REMEDIES.items()),
        ),
        "closing": CLOSING,
        "trace": Parameter(
            type="bool", default=False, doc="trace the error's path with ftrace and judge it; takes a few seconds"
        ),
    },
)
async def vm_survives_error(trial: Trial) -> Judgement:
    """Does a VM with a passed-through PCI function survive an error that the function's device reports?"""
    host, vm = trial.guest, vm_of(trial)
    passed = trial.options["passed"]
    pf = await address_of(host.machine, PF)
    device = await _pass(trial, pf, passed)
    before = await _working(trial, pf, device)
    before += await _registers(trial, "before")
    has_pf = await _prepared(trial, pf)
    await vm.shell.catch_up()
    position = vm.shell.log.latest
    async with contextlib.AsyncExitStack() as stack:
        watcher = None
        if trial.options["remedy"] == "watch":
            watcher = await stack.enter_async_context(Watcher(vm, position))
        if trial.options["trace"]:
            await stack.enter_async_context(tracing(host, filters=EVENTS, functions=FUNCTIONS))
        injection = await _injected(trial, pf)
        life = await (watcher.life() if watcher else look(vm, position))
    steps = error_chain(read_trace(host.machine.rundir), vm.machine.process.pid)
    missing = missing_step(steps, host_driver=has_pf) if trial.options["trace"] else ""
    after = Aftermath(
        passed=passed,
        injection=injection,
        pf=await traffic(host, pf, _PF_AFTER, seconds=trial.deadline) if has_pf else None,
        life=life,
        missing=missing if life.status == INTERNAL_ERROR else "",
        chain=tuple(chain_findings(steps)),
        registers=tuple(await _registers(trial, "after the error")),
    )
    return judge(await _remedied(trial, after, device), before)


async def _prepared(trial: Trial, pf: Bdf) -> bool:
    """Do what is done about the error before it; return whether the host drives the PF still."""
    host, vm, remedy = trial.guest, vm_of(trial), trial.options["remedy"]
    if trial.options["closing"]:
        await close_ports(host, trial.options["closing"])
    has_pf = _has_pf(trial.options["passed"])
    if remedy == "unplug":
        await take_out(vm)
    elif remedy == "unbind":
        await unbind(vm, await address_of(vm.machine, PASSED))
    elif remedy == "unbind-pf":
        if trial.options["passed"] != "vf":
            raise InputError("-s remedy=unbind-pf: only a VF goes with the PF's driver", hint="-s passed=vf")
        await unbind_pf(host, vm, pf)
        has_pf = False
    elif remedy == "mask":
        await mask(host, await address_of(host.machine, _target(trial)))
    return has_pf


async def _registers(trial: Trial, when: str) -> list[Finding]:
    """Return what the VM's VF shows of itself; only of a VF is it known where what stands."""
    return await vf_registers(vm_of(trial), when) if trial.options["passed"] == "vf" else []


def _has_pf(passed: str) -> bool:
    """Return whether the function that gets the error is driven by the host."""
    return passed in ("vf", "none")


async def _remedied(trial: Trial, after: Aftermath, device: Device | None) -> Aftermath:
    """Apply what comes after the error, and look whether the VM's function works."""
    vm, remedy = vm_of(trial), trial.options["remedy"]
    if remedy == "reset":
        if after.life.status != INTERNAL_ERROR:
            raise BrokenError(f"the VM was not stopped ({after.life.status}), so a reset is no remedy")
        await reset_vm(vm)
    if remedy in RESETS:
        after = replace(after, reset=await look(vm, vm.shell.log.latest, when=", after the reset"))
    if device is None or not after.now.alive or remedy == "unbind-pf":
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


def _target(trial: Trial) -> str:
    """Return the id of what has the error."""
    device = next(device for device in trial.spec.devices if device.id == PF)
    return device.bus or "" if trial.options["at"] == "port" else device.id


async def _injected(trial: Trial, pf: Bdf) -> Injection:
    """Inject the error; raise BrokenError if the host did not announce it, unless it was to keep silent of one."""
    severity, target = trial.options["severity"], _target(trial)
    trial.stimulus(f"{severity} error on {target}" + (f" ({pf})" if target == PF else ""))
    route = Route.GUEST if target == PF else Route.QEMU
    injection = await inject(trial.guest, target, _ERRORS[severity], route=route, header=_HEADER)
    if injection.verdict is InjectionVerdict.INJECTED or _is_silent(trial, injection):
        return injection
    raise BrokenError(f"injecting into {target}: {injection.verdict}: {injection.reason}")


def _is_silent(trial: Trial, injection: Injection) -> bool:
    """Return whether nobody hears of an error that is there: it is masked, or a port that has it tells nobody."""
    if trial.options["remedy"] == "mask":
        return injection.verdict is InjectionVerdict.MASKED
    return injection.verdict is InjectionVerdict.NOT_REPORTED and injection.latched


async def _function(vm: Guest, *, seconds: float) -> Finding:
    """Return whether the VM's function works, with its driver bound if it was taken off."""
    place = await address_of(vm.machine, PASSED)
    if (await vm.shell.wait_path(place.sysfs, exists=True, seconds=BIND_SECONDS)).came:
        await vm.shell.run(f"[ -e {place.sysfs}/driver ] || echo {place} > /sys/bus/pci/drivers_probe")
        await vm.shell.wait_path(f"{place.sysfs}/driver", exists=True, seconds=BIND_SECONDS)
    return await vm_traffic(vm, _VM_AFTER, seconds=seconds)

"""Scenario vm-recovers: an error of a VM's function, or its reset by the VM, and what becomes of it in the VM."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from testbed.actions.aer import inject
from testbed.actions.injection import InjectionVerdict, Route
from testbed.actions.passthrough import bound_to
from testbed.actions.reset_count import FUNCTIONS, resets_finding
from testbed.actions.sriov import reset_function
from testbed.guest.level2 import Level2
from testbed.guest.pci import address_of
from testbed.guest.recovery import await_recovery, latest_recovery, show_steps
from testbed.guest.tracing import read_trace, tracing
from testbed.model.errors import BrokenError
from testbed.model.outcome import Finding
from testbed.model.parameter import Parameter
from testbed.model.setup import Setup
from testbed.scenarios.passthrough_state import (
    HOST_MODULES,
    LINK_SECONDS,
    PASSED,
    PF,
    SIBLING,
    VM,
    give,
    inside,
    make_vf,
    proven,
    vm_of,
    vm_traffic,
)
from testbed.scenarios.scenario import scenario
from testbed.scenarios.vm_life import look
from testbed.scenarios.vm_recovery_judgement import Course, judge

if TYPE_CHECKING:
    from testbed.actions.injection import Injection
    from testbed.actions.sriov import Written
    from testbed.guest.guest import Guest
    from testbed.model.outcome import Judgement
    from testbed.model.recovery import Recovery
    from testbed.scenarios.trial import Trial

#: completer abort, malformed TLP
_ERRORS = {"nonfatal": "COMP_ABORT", "fatal": "MALF_TLP"}
_HEADER = (0, 1, 2, 3)
#: the VM's own card, the port above it, and the free one; its ports are native, for the link of one that ACPI serves
#: does not come back from a reset
_OWN, _OWN_PORT, _FREE_PORT = "dev1", "rp1", "rp2"
_PARAMETERS = {"memory": 160, "devices": ["e1000e"], "ports": 2, "hotplug": "native"}
_VM = Level2(setup=Setup(machine="q35", parameters=_PARAMETERS, cmdline=VM.setup.cmdline), modules=VM.modules)
#: guest seconds in which the VM's kernel must speak of an error
_HEAR_SECONDS = 5.0
_VERSION, _OTHER = "version of level 1's QEMU", "the card's other function, at level 1"


@scenario(
    modules=HOST_MODULES,
    level2=_VM,
    lasts=lambda _: 15.0,
    patience=LINK_SECONDS,
    options={
        "function": Parameter(
            type="str",
            default="pf",
            choices=["pf", "vf", "emulated"],
            doc="the VM's function: a whole one of level 1's, a VF of that, or one that the VM's QEMU emulates",
        ),
        "event": Parameter(
            type="str",
            default="error",
            choices=["error", "bus-reset"],
            doc="what happens: an error of its device, or the VM's kernel resets the bus that the function is on",
        ),
        "severity": Parameter(type="str", default="nonfatal", choices=list(_ERRORS), doc="of the error"),
        "qemu": Parameter(type="str", default="", doc="level 1's QEMU: a path or a name; empty: the default"),
    },
)
async def vm_recovers(trial: Trial) -> Judgement:
    """Does a VM's own kernel recover from an error of its PCI function, and does its function work afterwards?"""
    host, vm = trial.guest, vm_of(trial)
    before = await _given(trial)
    await show_steps(vm)
    await vm.shell.catch_up()
    position = vm.shell.log.latest
    async with tracing(host, functions=FUNCTIONS):
        injection, written = None, None
        if trial.options["event"] == "error":
            injection = await _injected(trial)
        else:
            written = await _reset(trial)
        recovery = await _recovery(vm, position, seconds=trial.deadline) if injection else None
        life = await look(vm, position)
        function = None
        if life.alive:
            function = await vm_traffic(vm, _subject("afterwards"), device=_device(trial), seconds=trial.deadline)
    course = Course(
        passed=trial.options["function"] != "emulated",
        injection=injection,
        written=written,
        recovery=recovery,
        life=life,
        function=function,
        resets=resets_finding(read_trace(host.machine.rundir), "resets at level 1"),
    )
    return judge(course, before)


def _device(trial: Trial) -> str:
    return _OWN if trial.options["function"] == "emulated" else PASSED


def _subject(when: str) -> str:
    return f"the function in the VM, {when}"


async def _given(trial: Trial) -> list[Finding]:
    """Give the VM its function; return what runs the VM, who has the card's other function, and that the VM's works."""
    host, vm = trial.guest, vm_of(trial)
    findings = [await _version(vm)]
    if trial.options["function"] != "emulated":
        trial.progress("giving the VM its function")
        pf = await address_of(host.machine, PF)
        await give(host, vm, await make_vf(host) if trial.options["function"] == "vf" else pf, port=_FREE_PORT)
        findings += await _neighbour(host)
    return [*findings, proven(await vm_traffic(vm, _subject("before"), device=_device(trial)))]


async def _version(vm: Guest) -> Finding:
    said = await vm.machine.qmp.execute("query-version")
    number = ".".join(str(said["qemu"][part]) for part in ("major", "minor", "micro"))
    observed = f"{number} ({said['package']})" if said["package"] else number
    return inside(Finding(subject=_VERSION, expected="any", observed=observed, evidence=vm.machine.qmp.last_reply))


async def _neighbour(host: Guest) -> list[Finding]:
    """Return who drives the card's other function, and whether it is in the IOMMU group of the VM's."""
    if not any(device.id == SIBLING for device in host.machine.spec.devices):
        return []
    own, other = [await bound_to(host, await address_of(host.machine, each)) for each in (PF, SIBLING)]
    group = "the same" if own.group == other.group else "another"
    # level 1 does not find the second igb of a slot unless the first one's ARI names it
    observed = f"{other.driver or 'no driver'}, in {group} IOMMU group" if other.group else "not found"
    return [Finding(subject=_OTHER, expected="any", observed=observed, evidence=other.evidence)]


async def _injected(trial: Trial) -> Injection:
    """Give the function's device its error; raise BrokenError if nobody was told of it.

    An emulated e1000e sends no errors (docs/aer.md), so the port above it has it.
    """
    emulated = trial.options["function"] == "emulated"
    target, route = (_OWN_PORT, Route.QEMU) if emulated else (PF, Route.GUEST)
    severity = trial.options["severity"]
    trial.stimulus(f"{severity} error on {target} " + ("of the VM" if emulated else "of level 1"))
    guest = vm_of(trial) if emulated else trial.guest
    injection = await inject(guest, target, _ERRORS[severity], route=route, header=_HEADER)
    if injection.verdict is not InjectionVerdict.INJECTED:
        raise BrokenError(f"injecting into {target}: {injection.verdict}: {injection.reason}")
    return injection


async def _reset(trial: Trial) -> Written:
    """Have the VM's kernel reset the bus of its function."""
    vm = vm_of(trial)
    place = await address_of(vm.machine, _device(trial))
    trial.stimulus(f"the VM resets the bus of {place}")
    return await reset_function(vm, place, "bus")


async def _recovery(vm: Guest, position: int, *, seconds: float) -> Recovery | None:
    """Return the VM's own recovery from whatever it heard of since the message numbered `position`.

    None if it heard of nothing within a few seconds, or was stopped before.
    """
    with vm.machine.qmp.listen("STOP") as stopped:
        if (await vm.machine.qmp.execute("query-status"))["status"] == "running":
            watching = asyncio.create_task(_watched(vm, position, seconds))
            stopping = asyncio.create_task(stopped.wait())
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            for task in (watching, stopping):
                task.cancel()
            await asyncio.gather(watching, stopping, return_exceptions=True)
    return latest_recovery(vm, None, after=position)


async def _watched(vm: Guest, position: int, seconds: float) -> None:
    """Wait until the VM's kernel speaks of a recovery, and then until that ends."""
    if await await_recovery(vm, None, after=position, seconds=_HEAR_SECONDS):
        await await_recovery(vm, None, after=position, seconds=seconds)

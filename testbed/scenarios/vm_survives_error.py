"""Scenario vm-survives-error: an error of a host's device, and the VM that has the device or one of its VFs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.aer import inject
from testbed.actions.hotplug import add_device
from testbed.actions.injection import InjectionVerdict, Route
from testbed.actions.passthrough import bind, vfio_device
from testbed.actions.sriov import enable_at_least
from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.level1 import Level1Host
from testbed.guest.level2 import LEVEL1_MODULES, level2, prepare_level1
from testbed.guest.pci import address_of
from testbed.image.level2 import image_places, qemu_in_guest
from testbed.machine.template import Parameter, load_template
from testbed.model.errors import BedError, BrokenError, GuestCrashedError, UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.scenarios.scenario import scenario

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.actions.injection import Injection
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf
    from testbed.scenarios.trial import Trial

#: what is injected for each severity: completer abort, malformed TLP, bad TLP
_ERRORS = {"nonfatal": "COMP_ABORT", "fatal": "MALF_TLP", "correctable": "BAD_TLP"}
#: the function that gets the error
_PF = "dev1"
_HEADER = (0, 1, 2, 3)
#: the device of the VM that it is, or whose VF it is
_PASSED = "passed1"
#: guest seconds the VM's driver may take
_BIND_SECONDS = 20.0
_BOUND = "bound to a driver"
_IMAGE = "debian"
_MEMORY_MIB = 256
#: wall seconds in which a VM that lives answers
_ANSWER_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class _Life:
    """What is seen of the VM after the error."""

    status: str  #: QEMU's run state
    answers: bool
    findings: tuple[Finding, ...]

    @property
    def alive(self) -> bool:
        return self.status == "running" and self.answers


@scenario(
    modules=(*LEVEL1_MODULES, "igb", "aer_inject"),
    options={
        "passed": Parameter(
            type="str",
            default="vf",
            choices=["vf", "pf", "none"],
            doc="what the VM has: a VF, the whole PF, or neither",
        ),
        "severity": Parameter(type="str", default="nonfatal", choices=list(_ERRORS), doc="of the error on the PF"),
        "unplugged": Parameter(
            type="bool",
            default=False,
            doc="whether it is taken out of the VM before the error, and put back afterwards",
        ),
    },
)
async def vm_survives_error(trial: Trial) -> Judgement:
    """Does a VM with a passed-through PCI function live on when the function's device reports an error?"""
    passed, severity = trial.options["passed"], trial.options["severity"]
    await prepare_level1(trial.guest)
    pf = await address_of(trial.guest.machine, _PF)
    trial.progress("starting level 2")
    async with _vm(trial, pf, passed) as vm:
        if trial.options["unplugged"]:
            await _take_out(vm)
        trial.stimulus(f"{severity} error on {_PF} ({pf})")
        injection = await inject(trial.guest, _PF, _ERRORS[severity], route=Route.GUEST, header=_HEADER)
        if injection.verdict is not InjectionVerdict.INJECTED:
            raise BrokenError(f"injecting into {_PF}: {injection.verdict}: {injection.reason}")
        life = await _look(vm)
        back = [await _put_back(vm)] if trial.options["unplugged"] and life.alive else []
        return _judge(injection, life, passed, back)


@contextlib.asynccontextmanager
async def _vm(trial: Trial, pf: Bdf, passed: str) -> AsyncIterator[Guest]:
    """Boot a level-2 machine that has what is to be passed, and prove that it has it."""
    guest = trial.guest
    function = await _function(guest, pf, passed)
    spec = load_template("q35").spec({"memory": _MEMORY_MIB, "devices": [], "ports": 1})
    if function is not None:
        bound = await bind(guest, function, "vfio-pci")
        if not bound.group:
            raise UnsupportedError(f"{function} has no IOMMU group", hint="-p iommu=intel and --cmdline intel_iommu=on")
        device = vfio_device(function, device_id=_PASSED, bus="rp1")
        spec = spec.model_copy(update={"devices": [*spec.devices, device], "slots": []})
    async with level2(guest, Level1Host(guest), spec, qemu=qemu_in_guest(""), image=image_places(_IMAGE)) as vm:
        if function is not None:
            await vm.load_modules("igbvf" if passed == "vf" else "igb")
            place = await address_of(vm.machine, _PASSED)
            await vm.shell.succeed(f"[ -e {place.sysfs}/driver ]")
        yield vm


async def _function(guest: Guest, pf: Bdf, passed: str) -> Bdf | None:
    """Return what is passed through, made if it is a VF."""
    if passed == "none":
        return None
    if passed == "pf":
        return pf
    await guest.act(f"for net in {pf.sysfs}/net/*; do ip link set ${{net##*/}} up; done")
    return (await enable_at_least(guest, _PF, 1)).vfs[0].bdf


async def _take_out(vm: Guest) -> None:
    """Have the VM give up the function."""
    if (outcome := (await unplug(vm, _PASSED)).outcome) is not UnplugOutcome.DELETED:
        raise BrokenError(f"taking {_PASSED} out of the VM: {outcome}")


async def _put_back(vm: Guest) -> Finding:
    """Give the function to the VM again; return whether its driver took it."""
    await add_device(vm.machine, vm.machine.spec.device(_PASSED))
    place = await address_of(vm.machine, _PASSED)
    bound = await vm.shell.wait_path(f"{place.sysfs}/driver", exists=True, seconds=_BIND_SECONDS)
    return Finding(
        subject="the function, put back",
        expected=_BOUND,
        observed=_BOUND if bound.came else "no driver",
        evidence=f"level2/{bound.evidence}",
    )


async def _look(vm: Guest) -> _Life:
    """Look whether the VM runs and answers."""
    status = await vm.machine.qmp.execute("query-status")
    finding = Finding(
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
        except (GuestCrashedError, BedError) as error:
            answer = error.message
    words = _said(vm)
    findings = (
        finding,
        Finding(subject="VM's shell", expected="answers", observed=answer, evidence="level2/shell.jsonl"),
        Finding(subject="level 1's QEMU", expected="nothing", observed=words or "nothing", evidence="level2/qemu.log"),
    )
    return _Life(status=status["status"], answers=answers, findings=findings)


def _said(vm: Guest) -> str:
    """Return what level 1's QEMU said."""
    log = vm.machine.rundir / "qemu.log"
    return " ".join(log.read_text(errors="replace").split()) if log.exists() else ""


def _judge(injection: Injection, life: _Life, passed: str, back: list[Finding]) -> Judgement:
    lost = any(finding.observed != _BOUND for finding in back)
    recovery = injection.recovery
    host = f"level 1: {recovery.state}" if recovery else "level 1: nothing to recover"
    kind = {"vf": "a VF of it", "pf": "it", "none": "none of it"}[passed]
    lives = "lives on, but the function put back has no driver" if lost else "lives on"
    vm = lives if life.alive else f"is {life.status}" if life.status != "running" else "does not answer"
    return Judgement(
        verdict=Verdict.GOOD if life.alive and not lost else Verdict.BAD,
        outcome="lost" if lost else "alive" if life.alive else "stopped" if life.status != "running" else "dead",
        reason=f"{host}; the VM that has {kind} {vm}" + (f": {life.findings[-1].observed}" if not life.alive else ""),
        findings=(*injection.findings, *life.findings, *back),
    )

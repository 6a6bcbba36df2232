"""A host's function is offered to a VM: to the one that runs, over its monitor, or to another on its command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.hotplug import add_device
from testbed.actions.passthrough import vfio_device
from testbed.guest.level2 import LEVEL2, level2
from testbed.guest.pci import address_of
from testbed.image.level2 import image_places, qemu_in_guest
from testbed.machine.launch import LOG
from testbed.model.errors import InputError, RefusedError
from testbed.model.outcome import Finding
from testbed.model.parameter import Parameter
from testbed.scenarios.passthrough_state import PASSED, PORT, VM, vm_of

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.model.pci import Bdf
    from testbed.scenarios.trial import Trial

_HOT, _COLD = "hot", "cold"
PLUG = Parameter(
    type="str",
    default=_HOT,
    choices=[_HOT, _COLD],
    doc="hot: device_add in the running VM; cold: on the command line of another VM, started for it",
)
_TAKEN, _DRIVEN = "taken", "has a driver"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a function that was offered."""

    reply: str  #: QEMU's words: `taken`, or why not
    findings: tuple[Finding, ...]  #: the reply, and if it was taken whether the VM drives it

    @property
    def taken(self) -> bool:
        """Return whether QEMU took it."""
        return self.reply == _TAKEN

    @property
    def driven(self) -> bool:
        """Return whether a driver of the VM has it."""
        return self.taken and self.findings[-1].observed == _DRIVEN


async def offer(trial: Trial, function: Bdf, *, when: str = "", nth: int = 1) -> Answer:
    """Offer a function to a VM; `when` is put to the findings' subjects, and `nth` counts the VMs started for it."""
    if trial.options["plug"] == _COLD:
        return await _on_command_line(trial, function, when, f"{LEVEL2}-cold{nth}")
    vm = vm_of(trial)
    try:
        await add_device(vm.machine, vfio_device(function, device_id=PASSED, bus=PORT))
    except RefusedError as refusal:
        return _refused(refusal.description, f"{LEVEL2}/{refusal.evidence}", when)
    return await _taken(trial, vm, LEVEL2, when)


async def _on_command_line(trial: Trial, function: Bdf, when: str, name: str) -> Answer:
    """Start another VM with the function, beside the idle one."""
    device = vfio_device(function, device_id=PASSED, bus=PORT)
    spec = VM.spec.model_copy(update={"devices": [*VM.spec.devices, device]})
    starting = level2(
        trial.guest,
        vm_of(trial).machine.host,
        spec,
        qemu=qemu_in_guest(VM.setup.qemu),
        image=image_places(VM.setup.image),
        cmdline=VM.setup.cmdline,
        name=name,
    )
    try:
        async with starting as vm:
            await vm.load_modules(*VM.modules)
            return await _taken(trial, vm, name, when)
    except InputError as refusal:
        # QEMU may not have started for another reason
        if f"vfio {function}" not in refusal.message:
            raise
        return _refused(refusal.message, f"{name}/{LOG}", when)


async def _taken(trial: Trial, vm: Guest, name: str, when: str) -> Answer:
    """Say whether the VM drives the function."""
    reply = _reply(_TAKEN, f"{name}/{vm.machine.qmp.last_reply}", when)
    place = await address_of(vm.machine, PASSED)
    bound = await vm.shell.wait_path(f"{place.sysfs}/driver", exists=True, seconds=trial.deadline)
    driven = Finding(
        subject=f"the function in the VM{when}",
        expected=_DRIVEN,
        observed=_DRIVEN if bound.came else "has no driver",
        evidence=f"{name}/{bound.evidence}",
    )
    return Answer(reply=_TAKEN, findings=(reply, driven))


def _refused(words: str, evidence: str, when: str) -> Answer:
    words = " ".join(words.split())
    return Answer(reply=words, findings=(_reply(words, evidence, when),))


def _reply(words: str, evidence: str, when: str) -> Finding:
    return Finding(subject=f"QEMU's reply{when}", expected=_TAKEN, observed=words, evidence=evidence)

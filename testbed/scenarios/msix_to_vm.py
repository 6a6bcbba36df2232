"""Scenario msix-to-vm: a function of the test bed's own, with MSI-X where one wants it, is given to a VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import add_device
from testbed.actions.passthrough import VFIO, bind, check_group, vfio_device
from testbed.guest.pci import address_of
from testbed.machine.played_config import Msix, PlayedConfig
from testbed.machine.withholding import withholding
from testbed.model.errors import BrokenError, RefusedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.passthrough_state import BIND_SECONDS, HOST_MODULES, PASSED, PORT, VM, vm_of
from testbed.scenarios.scenario import scenario
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.scenarios.trial import Trial

#: two vectors take 0x20 bytes of table and 8 of pending bits; the overlapping ones are those of a report
_LAYOUTS = {
    "sound": Msix(vectors=2, table=0x0, pending=0x800),
    "overlapping": Msix(vectors=2, table=0x40, pending=0x50),
}


@scenario(
    modules=HOST_MODULES,
    level2=VM,
    options={
        "layout": Parameter(
            type="str",
            default="overlapping",
            choices=list(_LAYOUTS),
            doc="where the function's MSI-X table and pending bits are",
        ),
        "relocation": Parameter(
            type="str",
            default="off",
            choices=["off", "auto", *(f"bar{number}" for number in range(6))],
            doc="x-msix-relocation of the VM's vfio-pci",
        ),
    },
)
async def msix_to_vm(trial: Trial) -> Judgement:
    """Does QEMU accept a function with this layout of MSI-X table and pending bits?"""
    host, vm = trial.guest, vm_of(trial)
    config = PlayedConfig(flr_seconds=0, msix=_LAYOUTS[trial.options["layout"]])
    async with withholding(host.machine, free_slot(trial.spec), config=config) as played:
        address = await address_of(host.machine, played.device.id)
        if not (await host.shell.wait_path(address.sysfs, exists=True, seconds=BIND_SECONDS)).came:
            raise BrokenError(f"starting state: {address} has not appeared")
        bound = await bind(host, address, VFIO)
        check_group(address, bound.group)
        device = vfio_device(address, device_id=PASSED, bus=PORT)
        properties = {**device.properties, "x-msix-relocation": trial.options["relocation"]}
        trial.modelled = f"the function: MSI-X {trial.options['layout']}"
        trial.stimulus(f"{address} to the VM")
        reply = Finding(subject="QEMU's reply", expected="taken", observed="taken", evidence="level2/qmp.jsonl")
        try:
            await add_device(vm.machine, device.model_copy(update={"properties": properties}))
        except RefusedError as refusal:
            words, at = " ".join(refusal.description.split()), f"level2/{refusal.evidence}"
            refused = reply.model_copy(update={"observed": words, "evidence": at})
            return Judgement(verdict=Verdict.BAD, outcome="refused", reason=words, findings=(refused,))
        seen = await _in_vm(vm)
    has = seen.observed != "none"
    return Judgement(
        verdict=Verdict.GOOD if has else Verdict.BAD,
        outcome="taken" if has else "without-msix",
        reason=f"taken; MSI-X in the VM: {seen.observed}",
        findings=(reply, seen),
    )


async def _in_vm(vm: Guest) -> Finding:
    """Say where the VM has MSI-X table and pending bits of the function."""
    place = await address_of(vm.machine, PASSED)
    await vm.shell.wait_path(place.sysfs, exists=True, seconds=BIND_SECONDS)
    result = await vm.shell.run(f"lspci -vvs {place} | grep -A2 MSI-X")
    observed = " ".join(result.text.split()) or "none"
    return Finding(subject="MSI-X in the VM", expected="some", observed=observed, evidence=f"level2/{result.evidence}")

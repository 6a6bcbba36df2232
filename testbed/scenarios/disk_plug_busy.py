"""Scenario disk-plug-busy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import add_parts
from testbed.actions.unplug import UnplugOutcome, removal
from testbed.guest.device_proof import prove_device
from testbed.guest.hotplug_control import slot_driver_words
from testbed.guest.pci import address_of
from testbed.model.device_kind import hot_device
from testbed.model.errors import RefusedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.spec import SINGLE_SLOT_BUSES, Slot
from testbed.scenarios.hotplug_judgement import findings_of
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import DISK_MODULES, cold_device

if TYPE_CHECKING:
    from testbed.model.spec import Device, MachineSpec
    from testbed.scenarios.trial import Trial

#: guest seconds in which a slot driver that misread the request takes the old disk off: pciehp's 5 s and more
_WATCHED_SECONDS = 12


@scenario(modules=DISK_MODULES, warp_safe=True, patience=_WATCHED_SECONDS)
async def disk_plug_busy(trial: Trial) -> Judgement:
    """Is a disk for an occupied slot refused, and the disk in that slot left alone?

    A port has one slot: the disk is added to its bus without an address. Elsewhere it is given the other's address.
    """
    guest = trial.guest
    old = await cold_device(trial, "disk")
    parts = hot_device("virtio-blk", Slot(bus=old.bus or trial.spec.root_bus, addr=_address(trial.spec, old)))
    position = guest.shell.log.latest
    trial.stimulus(f"device_add {parts.device.driver} on {old.bus}, which {old.id} occupies")
    async with removal(guest, old.id, seconds=trial.deadline) as going:
        try:
            await add_parts(guest.machine, parts)
            refusal, reply, evidence = False, "accepted", guest.machine.qmp.last_reply
        except RefusedError as error:
            refusal, reply, evidence = True, error.description, error.evidence
        place = "" if refusal else f" as {await address_of(guest.machine, parts.device.id)}"
        result = (await going.over())[0]
    kept = result.outcome is UnplugOutcome.IGNORED
    proof = await prove_device(guest, old)
    words = await slot_driver_words(guest, after=position)
    findings = (
        Finding(subject="QMP reply", expected="device_add refused", observed=reply + place, evidence=evidence),
        *(each.model_copy(update={"expected": "left alone"}) for each in findings_of([result])),
        proof.finding,
        *(
            Finding(subject="slot driver", expected="no message", observed=each.text, evidence=each.reference)
            for each in words[-4:]
        ),
    )
    good = refusal and kept and proof.works
    lost = f"{old.id}, which was there, was removed after {result.settled:.1f} s"
    fate = f"{old.id} still works" if kept and proof.works else f"{old.id} no longer works" if kept else lost
    return Judgement(
        verdict=Verdict.GOOD if good else Verdict.BAD,
        outcome="refused" if refusal else "accepted",
        reason=f"{reply}{place}; {fate}",
        findings=findings,
        guest_seconds=None if kept else result.settled,
    )


def _address(spec: MachineSpec, device: Device) -> str | None:
    single = any(each.id == device.bus and each.driver in SINGLE_SLOT_BUSES for each in spec.devices)
    return None if single else device.addr

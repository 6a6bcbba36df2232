"""Scenario disk-plug-refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import add_parts
from testbed.actions.witness import in_tree
from testbed.guest.hotplug_control import slot_driver_words
from testbed.model.device_kind import hot_device
from testbed.model.errors import RefusedError, UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.scenarios.scenario import scenario
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from testbed.model.spec import MachineSpec, Slot
    from testbed.scenarios.trial import Trial

#: how QEMU says no: the port's own handler (hw/pci/pcie.c), and a bus without one (qdev-monitor.c)
_WORDS = ("unsupported by the port device", "does not support hotplugging")
#: guest seconds in which the guest is listened to
_HEARD_SECONDS = 2


@scenario(warp_safe=True, patience=_HEARD_SECONDS)
async def disk_plug_refused(trial: Trial) -> Judgement:
    """Is a disk for a slot without hot-plug refused cleanly?

    Cleanly: QEMU says why, nothing is left in its tree, and the guest hears nothing.
    """
    slot = free_slot(trial.spec)
    if _hot_pluggable(trial.spec, slot):
        hint = "take hot-plug away: -p port_properties=hotplug=off on q35, -p hotplug=off on i440fx"
        raise UnsupportedError(f"slot {slot.bus} can be hot-plugged", hint=hint)
    parts = hot_device("virtio-blk", slot)
    machine, shell = trial.guest.machine, trial.guest.shell
    position = shell.log.latest
    trial.stimulus(f"device_add {parts.device.driver} {parts.device.id} on {slot.bus}")
    try:
        await add_parts(machine, parts)
        refused, reply, evidence = False, "accepted", machine.qmp.last_reply
    except RefusedError as error:
        refused, reply, evidence = True, error.description, error.evidence
    there, tree_line = await in_tree(machine, parts.device.id)
    await shell.sleep(trial.deadline)
    words = await slot_driver_words(trial.guest, after=position)
    findings = (
        Finding(subject="QMP reply", expected=" or ".join(_WORDS), observed=reply, evidence=evidence),
        Finding(
            subject="QEMU device tree",
            expected="no device",
            observed="there" if there else "not there",
            evidence=tree_line,
        ),
        Finding(
            subject="slot driver",
            expected="no message",
            observed=words[-1].text if words else "no word",
            evidence=words[-1].reference if words else "kernel.log",
        ),
    )
    clean = refused and any(each in reply for each in _WORDS) and not there and not words
    return Judgement(
        verdict=Verdict.GOOD if clean else Verdict.BAD,
        outcome="refused" if refused else "accepted",
        reason=reply + ("" if clean else ", and not cleanly" if refused else ""),
        findings=findings,
    )


def _hot_pluggable(spec: MachineSpec, slot: Slot) -> bool:
    """Return whether nothing in the machine's description takes hot-plug from a slot."""
    port = next((device for device in spec.devices if device.id == slot.bus), None)
    if port is not None and port.properties.get("hotplug") is False:
        return False
    switches = ("acpi-root-pci-hotplug",) if port is None else ("acpi-pci-hotplug-with-bridge-support",)
    piix4 = [each for each in spec.globals if each.driver == "PIIX4_PM"]
    return not any(each.property in switches and each.value is False for each in piix4)

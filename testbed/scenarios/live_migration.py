"""Scenario live-migration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.witness import in_tree
from testbed.guest.device_proof import prove_device
from testbed.guest.migration import migrate_guest
from testbed.guest.pci import addresses
from testbed.machine.launch import check_spec
from testbed.model.device_kind import KINDS, child_bus, hot_device
from testbed.model.errors import BrokenError, MigrationError, UnsupportedError
from testbed.model.outcome import Finding, Judgement, Verdict
from testbed.model.parameter import Parameter
from testbed.scenarios.device_choice import Step
from testbed.scenarios.device_plug import make_ready, plug_steps
from testbed.scenarios.migration import TO_OPTION, destination_qemu, grown, migration_finding
from testbed.scenarios.scenario import scenario
from testbed.scenarios.starting_state import DISK_MODULES, endpoints, prove_all
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from testbed.host.qemu import Qemu
    from testbed.model.spec import Device, MachineSpec
    from testbed.scenarios.trial import Trial

#: guest seconds a device that is added first may take
_PLUG_SECONDS = 30
_SAME, _LACKING, _ELSEWHERE, _EXTRA = "same", "lacking", "elsewhere", "extra"
#: the device that only the destination has
_ONLY_THERE = "extra1"


def _check(spec: MachineSpec, qemu: Qemu, options: Mapping[str, Any]) -> None:
    check_spec(_typed(spec, options), destination_qemu(options, qemu))


@scenario(
    modules=DISK_MODULES,
    warp_safe=True,
    check=_check,
    patience=_PLUG_SECONDS,
    options={
        "plugged": Parameter(
            type="str",
            default="",
            choices=["", *(kind.name for kind in KINDS)],
            doc="kind of a device that is added while the guest runs, before it migrates; empty: none",
        ),
        "destination": Parameter(
            type="str",
            default=_SAME,
            choices=[_SAME, _LACKING, _ELSEWHERE, _EXTRA],
            doc="the second QEMU's devices: the same, all but the last, the last in another slot, or one disk more",
        ),
        "type": Parameter(type="str", default="", doc="the second QEMU's machine type; empty: the same"),
        "to": TO_OPTION,
    },
)
async def live_migration(trial: Trial) -> Judgement:
    """Does a running guest continue in another QEMU, with every device it had?"""
    cold = endpoints(trial.spec)
    await prove_all(trial, cold)
    here, hot = await _with_plugged(trial)
    devices = [*cold, *hot]
    if not devices:
        raise UnsupportedError("the machine has no device to prove", hint="give it one: -p devices=virtio-blk")
    there = _typed(destination_spec(here, devices[-1], trial.options["destination"]), trial.options)
    qemu = destination_qemu(trial.options, trial.guest.machine.qemu)
    for disk in there.disks:
        if disk not in here.disks:
            await trial.guest.machine.make_disk(disk)
    trial.stimulus(f"migrate to QEMU {qemu.version.partition(' ')[0]}, {there.machine_type}: {difference(here, there)}")
    try:
        migrated = await migrate_guest(trial.guest, there, qemu)
    except MigrationError as refusal:
        return await _refused(trial, refusal, devices)
    works, proofs = await _proofs(trial, devices)
    findings = (migration_finding(migrated), *proofs)
    if not works:
        dead = "; ".join(each.observed for each in proofs)
        return Judgement(verdict=Verdict.BAD, outcome="dead", reason=f"{migrated}; but {dead}", findings=findings)
    if trial.options["destination"] == _EXTRA:
        return await _unannounced(trial, findings)
    reason = f"{migrated}; {len(devices)} devices work"
    return Judgement(verdict=Verdict.GOOD, outcome="migrated", reason=reason, findings=findings)


async def _with_plugged(trial: Trial) -> tuple[MachineSpec, list[Device]]:
    """Return the machine as it is now, and the device that was added to it, if one is to be."""
    if not trial.options["plugged"]:
        return trial.spec, []
    slot = free_slot(trial.spec)
    steps = [Step(parts=hot_device(trial.options["plugged"], slot), slot=slot)]
    await make_ready(trial, steps)
    judgement = await plug_steps(trial, steps)
    if judgement.verdict is not Verdict.GOOD:
        raise BrokenError(f"starting state: {steps[0].words}: {judgement.reason}")
    return grown(trial.spec, steps[0].parts), [steps[0].parts.device]


def destination_spec(here: MachineSpec, last: Device, how: str) -> MachineSpec:
    """Return what the second QEMU is given."""
    if how == _SAME:
        return here
    slot = free_slot(here)
    if how == _EXTRA:
        return grown(here, hot_device("virtio-blk", slot, device_id=_ONLY_THERE))
    moved = [last.model_copy(update={"bus": slot.bus, "addr": slot.addr})] if how == _ELSEWHERE else []
    at = here.devices.index(last)
    # what stands on a bus of a device that is left out is left out with it
    behind = [each for each in here.devices[at + 1 :] if moved or each.bus != child_bus(last.id)]
    slots = [each for each in here.slots if not moved or each != slot]
    return here.model_copy(update={"devices": [*here.devices[:at], *moved, *behind], "slots": slots})


def _typed(spec: MachineSpec, options: Mapping[str, Any]) -> MachineSpec:
    return spec.model_copy(update={"machine_type": options["type"]}) if options["type"] else spec


def difference(here: MachineSpec, there: MachineSpec) -> str:
    """Say how the destination's devices differ."""
    places = [{each.id: (each.bus, each.addr) for each in spec.devices} for spec in (here, there)]
    ids = sorted(places[0].keys() | places[1].keys())
    differing = [each for each in ids if places[0].get(each) != places[1].get(each)]
    verbs = {(True, False): "without", (False, True): "with", (True, True): "elsewhere:"}
    said = [f"{verbs[each in places[0], each in places[1]]} {each}" for each in differing]
    return ", ".join(said) or "the same devices"


async def _proofs(trial: Trial, devices: list[Device]) -> tuple[bool, list[Finding]]:
    proofs = [await prove_device(trial.guest, device) for device in devices]
    return all(proof.works for proof in proofs), [proof.finding for proof in proofs]


async def _refused(trial: Trial, refusal: MigrationError, devices: list[Device]) -> Judgement:
    """Judge a migration that QEMU refused, with what became of the guest, which is where it was."""
    works, proofs = await _proofs(trial, devices)
    finding = Finding(
        subject="migration",
        expected="the guest runs on the destination",
        observed=refusal.words,
        evidence=refusal.evidence,
    )
    after = "the guest still runs on the source" if works else "and on the source a device no longer works"
    words = "; ".join(refusal.words.splitlines())
    findings = (finding, *proofs)
    return Judgement(verdict=Verdict.BAD, outcome="refused", reason=f"{words}; {after}", findings=findings)


async def _unannounced(trial: Trial, proven: tuple[Finding, ...]) -> Judgement:
    """Judge a guest whose second QEMU has a disk more than it had."""
    machine = trial.guest.machine
    there, line = await in_tree(machine, _ONLY_THERE)
    place = (await addresses(machine)).get(_ONLY_THERE)
    seen = place is not None and await trial.guest.shell.wait_path(place.sysfs, exists=True, seconds=trial.deadline)
    noticed = bool(seen and seen.came)
    findings = (
        *proven,
        Finding(
            subject=f"QEMU device tree: {_ONLY_THERE}",
            expected="not there",
            observed=f"at {place}" if there else "not there",
            evidence=line,
        ),
        Finding(
            subject=f"guest sysfs: {_ONLY_THERE}",
            expected="what QEMU has",
            observed="there" if noticed else f"not there after {trial.deadline:.0f} s",
            evidence=seen.evidence if seen else line,
        ),
    )
    words = "the guest saw it" if noticed else "the guest is unaware of it"
    reason = f"nobody refused {_ONLY_THERE}, which only the destination has: {words}"
    outcome = "added" if noticed else "unseen"
    return Judgement(verdict=Verdict.BAD, outcome=outcome, reason=reason, findings=findings)

"""Scenarios of a disk that was added and that the guest may not have noticed.

disk-plug-after-rescan, disk-unplug-after-rescan and disk-unplug-unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.hotplug import Plugged, PlugOutcome, plug, rescan
from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.guest.deadline import deadline
from testbed.guest.hotplug_control import nobody_serves, read_control
from testbed.model.device_kind import hot_device
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.outcome import Finding
from testbed.model.parameter import Parameter
from testbed.scenarios.hotplug_judgement import judge_plug, judge_unplug
from testbed.scenarios.scenario import PATIENCE, scenario
from testbed.scenarios.starting_state import DISK_MODULES, load_driver, prove
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from testbed.guest.hotplug_control import HotplugControl
    from testbed.guest.place import Place
    from testbed.model.outcome import Judgement
    from testbed.model.spec import Device
    from testbed.scenarios.trial import Trial

#: guest seconds in which a working slot driver shows a new device (pciehp takes 1.4 s)
_UNAIDED_SECONDS = 3.0
#: guest seconds in which a user space that rescans by itself has done so: a crontab's two minutes, and what it takes
_OWN_RESCAN_SECONDS = 130
_RESCANS = {
    "rescan": Parameter(
        type="str",
        default="asked",
        choices=["asked", "own"],
        doc=f"the guest is told to rescan, or its user space does so within {_OWN_RESCAN_SECONDS} guest seconds",
    )
}


@dataclass(frozen=True, kw_only=True)
class _Unaided:
    """A disk that was added, and whether the guest noticed it without a rescan."""

    device: Device
    place: Place
    control: HotplugControl  #: of its slot, before it was added
    noticed: bool
    evidence: str


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE)
async def disk_plug_after_rescan(trial: Trial) -> Judgement:
    """Does a hot-plugged disk appear and work once the guest rescans its PCI buses?"""
    disk = await _plug_unaided(trial)
    trial.stimulus("echo 1 > /sys/bus/pci/rescan")
    result = await _rescanned(trial, disk)
    found_by = "it was there before the rescan" if disk.noticed else "the rescan found it"
    found_by += f" ({nobody_serves(disk.control)})" if not disk.control.served_by else ""
    return await judge_plug(trial, result, disk.control, disk.device, found_by=found_by)


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE, options=_RESCANS)
async def disk_unplug_after_rescan(trial: Trial) -> Judgement:
    """Does the guest release a disk that it found by a rescan, when asked?"""
    disk = await _plug_unaided(trial)
    if trial.options["rescan"] == "asked":
        await rescan(trial.guest)
    else:
        await _rescanned_by_itself(trial, disk)
    await prove(trial, disk.device)
    trial.stimulus(f"device_del {disk.device.id}")
    result = await unplug(trial.guest, disk.device.id, seconds=trial.deadline)
    return await judge_unplug(trial, result, disk.control)


@scenario(modules=DISK_MODULES, warp_safe=True, patience=PATIENCE)
async def disk_unplug_unseen(trial: Trial) -> Judgement:
    """Can a plugged disk that the guest never saw be unplugged again?

    QEMU from 6.2 on deletes what stands in a slot without power without asking the guest (0d33415a4eaf).
    """
    disk = await _plug_unaided(trial)
    if disk.noticed:
        raise UnsupportedError(
            "the guest saw the disk", hint="keep it from noticing: --cmdline pcie_aspm=off -p hotplug=native"
        )
    trial.stimulus(f"device_del {disk.device.id}, which the guest has not seen")
    result = await unplug(trial.guest, disk.device.id, seconds=trial.deadline)
    judgement = await judge_unplug(trial, result, disk.control)
    if result.outcome is UnplugOutcome.LEFT_IN_QEMU:  # it never was in the guest
        reason = f"QEMU waits for the guest: {nobody_serves(disk.control)}"
        return judgement.model_copy(update={"outcome": UnplugOutcome.IGNORED.value, "reason": reason})
    reason = f"QEMU deleted it without asking the guest, {result.settled:.1f} s after the request"
    deleted = result.outcome is UnplugOutcome.DELETED
    return judgement.model_copy(update={"reason": reason}) if deleted else judgement


async def _plug_unaided(trial: Trial) -> _Unaided:
    slot = free_slot(trial.spec)
    parts = hot_device("virtio-blk", slot)
    await load_driver(trial, parts.device)
    control = await read_control(trial.guest, slot)
    plugged = await plug(trial.guest, parts, seconds=_UNAIDED_SECONDS)
    if plugged.place is None:
        raise BrokenError(f"starting state: QEMU refused {parts.device.id}: {plugged.findings[0].observed}")
    return _Unaided(
        device=parts.device,
        place=plugged.place,
        control=control,
        noticed=plugged.outcome is PlugOutcome.PRESENT,
        evidence=plugged.findings[-1].evidence,
    )


async def _rescanned_by_itself(trial: Trial, disk: _Unaided) -> None:
    """Wait for the guest to find the disk without being asked; raise BrokenError if it does not."""
    found = await trial.guest.shell.wait_path(disk.place.sysfs, exists=True, seconds=_OWN_RESCAN_SECONDS)
    if not found.came:
        raise BrokenError(
            f"starting state: the guest did not find {disk.device.id} by itself within {_OWN_RESCAN_SECONDS} s",
            hint="its user space must rescan PCI: --first 'crond …', or a disk with such a crontab and --whole",
        )


async def _rescanned(trial: Trial, disk: _Unaided) -> Plugged:
    """Let the guest rescan, and watch for the disk as after a plug."""
    async with deadline(trial.guest, trial.deadline) as limit:
        started = limit.started
        await rescan(trial.guest)
        appearing = await trial.guest.shell.start_wait(disk.place.sysfs, exists=True, seconds=trial.deadline)
        limit.go()
        sysfs = await appearing()
    before = Finding(
        subject="before the rescan",
        expected="any",
        observed="already there" if disk.noticed else "not there",
        evidence=disk.evidence,
    )
    after = Finding(
        subject="after the rescan",
        expected=f"{disk.place} there",
        observed="there" if sysfs.came else "not there",
        evidence=sysfs.evidence,
    )
    return Plugged(
        outcome=PlugOutcome.PRESENT if sysfs.came else PlugOutcome.IGNORED,
        started=started,
        latency=round(sysfs.seconds - started, 3) if sysfs.came else None,
        place=disk.place,
        findings=(before, after),
    )

"""Scenario disk-plug-after-rescan, and the starting state it shares with disk-unplug-after-rescan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.actions.hotplug import Plugged, PlugOutcome, plug, rescan
from testbed.guest.deadline import deadline
from testbed.guest.disk import MODULES
from testbed.guest.hotplug_control import nobody_serves, read_control
from testbed.model.errors import BrokenError
from testbed.model.outcome import Finding
from testbed.scenarios.disk_plug import hot_disk
from testbed.scenarios.hotplug_judgement import judge_plug
from testbed.scenarios.scenario import scenario
from testbed.scenarios.trial import free_slot

if TYPE_CHECKING:
    from testbed.guest.hotplug_control import HotplugControl
    from testbed.model.outcome import Judgement
    from testbed.model.pci import Bdf
    from testbed.model.spec import Device
    from testbed.scenarios.trial import Trial

#: guest seconds in which a working slot driver shows a new device (pciehp takes 1.4 s)
_UNAIDED_SECONDS = 3.0


async def plugged_unaided(trial: Trial) -> tuple[Device, Bdf, HotplugControl, Plugged]:
    """Add a disk and see whether the guest notices it without a rescan."""
    slot = free_slot(trial.spec)
    device, disk = hot_disk(slot)
    control = await read_control(trial.guest, slot)
    unaided = await plug(trial.guest, device, disk=disk, seconds=_UNAIDED_SECONDS)
    if unaided.address is None:
        raise BrokenError(f"starting state: QEMU refused {device.id}: {unaided.findings[0].observed}")
    return device, unaided.address, control, unaided


@scenario(modules=MODULES, warp_safe=True)
async def disk_plug_after_rescan(trial: Trial) -> Judgement:
    """Does a disk that was added appear and work once the guest rescans its PCI buses?"""
    device, address, control, unaided = await plugged_unaided(trial)
    trial.stimulus("echo 1 > /sys/bus/pci/rescan")
    async with deadline(trial.guest, trial.deadline) as limit:
        started = limit.started
        await rescan(trial.guest)
        waiting = await trial.guest.shell.start_wait(address.sysfs, exists=True, seconds=trial.deadline)
        limit.go()
        seen = await waiting()
    before = "already there" if unaided.outcome is PlugOutcome.PRESENT else "not there"
    findings = (
        Finding(
            subject="before the rescan",
            expected="any",
            observed=before,
            evidence=unaided.findings[-1].evidence,
        ),
        Finding(
            subject="after the rescan",
            expected=f"{address} there",
            observed="there" if seen.came else "not there",
            evidence=seen.evidence,
        ),
    )
    result = Plugged(
        outcome=PlugOutcome.PRESENT if seen.came else PlugOutcome.IGNORED,
        started=started,
        latency=round(seen.seconds - started, 3) if seen.came else None,
        address=address,
        findings=findings,
    )
    found_by = "the rescan found it" if unaided.outcome is PlugOutcome.IGNORED else "it was there before the rescan"
    found_by += f" ({nobody_serves(control)})" if not control.served_by else ""
    return await judge_plug(trial, result, control, device, found_by=found_by)

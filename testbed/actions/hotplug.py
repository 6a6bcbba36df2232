"""Plug a device while the guest runs, watched by three witnesses: QMP, QEMU's tree, the guest's sysfs."""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.actions.witness import in_tree, leave_time
from testbed.guest.deadline import deadline
from testbed.guest.place import place_in_guest
from testbed.machine.argv import blockdev, netdev
from testbed.model.errors import RefusedError
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from testbed.guest.guest import Guest
    from testbed.guest.place import Place
    from testbed.machine.launch import Machine
    from testbed.model.device_kind import DeviceParts
    from testbed.model.spec import Device

#: guest seconds an answer may take
DEADLINE = 30.0


class PlugOutcome(enum.StrEnum):
    """What became of a device after `device_add`."""

    PRESENT = "present"  #: in the guest's sysfs
    REFUSED = "refused"  #: QEMU said no
    IGNORED = "ignored"  #: in QEMU's tree, and not in the guest's at the deadline


@dataclass(frozen=True, kw_only=True)
class Plugged:
    """The result of `plug`."""

    outcome: PlugOutcome
    started: float
    latency: float | None
    place: Place | None  #: where the device shows; None if QEMU refused it
    findings: tuple[Finding, ...]


async def plug(
    guest: Guest,
    parts: DeviceParts,
    *,
    seconds: float = DEADLINE,
    added: bool = False,
    then: Callable[[], Awaitable[None]] | None = None,
) -> Plugged:
    """Add a device with all that belongs to it, unless that was done, and watch for up to `seconds` guest seconds.

    `then` is done once QEMU has the device, with the machine stopped.
    """
    machine, device = guest.machine, parts.device
    async with deadline(guest, seconds) as limit:
        started = limit.started
        async with guest.stopped() if then else contextlib.nullcontext():
            try:
                if not added:
                    await add_parts(machine, parts)
            except RefusedError as refusal:
                return refused_plug(refusal, started)
            accepted = machine.qmp.last_reply
            if then:
                await then()
        place = await place_in_guest(machine, device)
        appearing = await guest.shell.start_wait(place.sysfs, exists=True, seconds=seconds)
        limit.go()
        sysfs = await appearing()
    there, tree_line = await in_tree(machine, device.id)
    leave_time(machine, f"[ ! -e {place.sysfs} ]", "guest sysfs: the device", seconds)
    latency = round(sysfs.seconds - started, 3) if sysfs.came else None
    appeared = f"there after {latency:.1f} s" if latency is not None else f"not there after {seconds:.0f} s"
    findings = (
        _finding("QMP reply", "device_add accepted", "accepted", accepted),
        _finding("QEMU device tree", "device there", "there" if there else "not there", tree_line),
        _finding("guest sysfs", f"{place} there", appeared, sysfs.evidence),
    )
    outcome = PlugOutcome.PRESENT if sysfs.came else PlugOutcome.IGNORED
    return Plugged(outcome=outcome, started=started, latency=latency, place=place, findings=findings)


async def add_parts(machine: Machine, parts: DeviceParts) -> None:
    """Add a device, first what is behind it, last its children.

    Raises RefusedError with QEMU's words; whatever was created behind the device is then removed.
    """
    devices = [machine.typed(each) for each in (parts.device, *parts.children)]
    if parts.disk is not None:
        await machine.make_disk(parts.disk)
        await machine.qmp.execute("blockdev-add", blockdev(parts.disk, machine.folder))
    if parts.network is not None:
        await machine.qmp.execute("netdev_add", netdev(parts.network))
    if parts.chardev:
        # what the guest says there goes nowhere, and is always taken: an unread channel would stop it
        await machine.qmp.execute("chardev-add", {"id": parts.chardev, "backend": {"type": "null", "data": {}}})
    try:
        for each in devices:
            await machine.qmp.execute("device_add", each)
    except RefusedError:
        with contextlib.suppress(RefusedError):  # a controller that was added holds on to it
            await release_backends(machine, parts)
        raise


async def add_device(machine: Machine, device: Device) -> None:
    """Add a device whose backends are there, or that has none; raise RefusedError with QEMU's words."""
    await machine.qmp.execute("device_add", machine.typed(device))


async def release_backends(machine: Machine, parts: DeviceParts) -> None:
    """Remove the backends of a device that is gone, so that the same device can be plugged again."""
    if parts.disk is not None:
        await machine.qmp.execute("blockdev-del", {"node-name": parts.disk.id})
    if parts.network is not None:
        await machine.qmp.execute("netdev_del", {"id": parts.network.id})
    if parts.chardev:
        await machine.qmp.execute("chardev-remove", {"id": parts.chardev})


async def rescan(guest: Guest) -> None:
    """Let the guest scan its PCI buses anew."""
    await guest.act("echo 1 > /sys/bus/pci/rescan")


def refused_plug(refusal: RefusedError, started: float) -> Plugged:
    """Return the result of a plug that QEMU refused."""
    finding = _finding("QMP reply", "device_add accepted", refusal.description, refusal.evidence)
    return Plugged(outcome=PlugOutcome.REFUSED, started=started, latency=None, place=None, findings=(finding,))


def _finding(subject: str, expected: str, observed: str, evidence: str) -> Finding:
    return Finding(subject=subject, expected=expected, observed=observed, evidence=evidence)

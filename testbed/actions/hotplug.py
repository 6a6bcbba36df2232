"""Plug and unplug a device while the guest runs, watched by three witnesses: QMP, QEMU's tree, the guest's sysfs."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from testbed.guest.deadline import deadline
from testbed.guest.pci import address_of
from testbed.machine.argv import blockdev, netdev
from testbed.model.errors import RefusedError
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.guest.guest import Guest
    from testbed.machine.launch import Machine
    from testbed.machine.qmp import Event
    from testbed.model.device_kind import DeviceParts
    from testbed.model.pci import Bdf
    from testbed.model.spec import Device, Disk, Network

#: guest seconds an answer may take
DEADLINE = 30.0

#: where QEMU's tree has the devices that have an id
_PERIPHERAL = {"path": "/machine/peripheral"}


class UnplugOutcome(enum.StrEnum):
    """What became of a device after `device_del`."""

    DELETED = "deleted"  #: gone for all three witnesses
    REFUSED = "refused"  #: QEMU or the guest said no
    BUSY = "busy"  #: QEMU said no because the slot's indicator blinks
    IGNORED = "ignored"  #: still there for all three at the deadline
    LEFT_IN_GUEST = "left-in-guest"  #: deleted in QEMU, still in the guest's sysfs
    LEFT_IN_QEMU = "left-in-qemu"  #: removed by the guest, still in QEMU


class PlugOutcome(enum.StrEnum):
    """What became of a device after `device_add`."""

    PRESENT = "present"  #: in the guest's sysfs
    REFUSED = "refused"  #: QEMU said no
    IGNORED = "ignored"  #: in QEMU's tree, and not in the guest's at the deadline


@dataclass(frozen=True, kw_only=True)
class Unplugged:
    """The result of `unplug`."""

    outcome: UnplugOutcome
    started: float  #: guest seconds at the request
    latency: float | None  #: guest seconds to the event that settled it
    findings: tuple[Finding, ...]


@dataclass(frozen=True, kw_only=True)
class Plugged:
    """The result of `plug`."""

    outcome: PlugOutcome
    started: float
    latency: float | None
    address: Bdf | None  #: where the device stands; None if QEMU refused it
    findings: tuple[Finding, ...]


async def unplug(guest: Guest, device_id: str, *, seconds: float = DEADLINE) -> Unplugged:
    """Ask for a device's removal and watch for up to `seconds` guest seconds."""
    machine = guest.machine
    address = await address_of(machine, device_id)
    names = ("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR")
    with machine.qmp.listen(*names, device=device_id) as answer:
        async with deadline(guest, seconds) as limit:
            started = limit.started
            try:
                await machine.qmp.execute("device_del", {"id": device_id})
            except RefusedError as refusal:
                return _refused(refusal, started)
            asked = machine.qmp.last_reply
            _leave_time(machine, f"[ -e {address.sysfs} ]", "guest sysfs: the device", seconds)
            gone = await guest.shell.start_wait(address.sysfs, exists=False, seconds=seconds)
            limit.go(answer, done=partial(_is_gone, machine, device_id))
            told = await limit.event()
        # the event may come before the guest's sysfs is clean, and the other way round: hear both to the end
        sysfs = await gone()
    in_tree, tree_line = await _in_tree(machine, device_id)
    event = told[0] if told else None
    refused = event is not None and event.name == "DEVICE_UNPLUG_GUEST_ERROR"
    outcome = UnplugOutcome.REFUSED if refused else _unplug_outcome(deleted=not in_tree, gone=sysfs.came)
    latency = round(told[1] - started, 3) if told else None
    after = f"after {latency:.1f} s" if latency is not None else f"none in {seconds:.0f} s"
    took = f"gone after {sysfs.seconds - started:.1f} s" if sysfs.came else f"still there after {seconds:.0f} s"
    findings = (
        _finding("QMP event", "DEVICE_DELETED", event_words(event, after), event.evidence if event else asked),
        _finding("QEMU device tree", "device gone", "still there" if in_tree else "gone", tree_line),
        _finding("guest sysfs", f"{address} gone", took, sysfs.evidence),
    )
    return Unplugged(outcome=outcome, started=started, latency=latency, findings=findings)


async def plug(
    guest: Guest,
    device: Device,
    *,
    disk: Disk | None = None,
    network: Network | None = None,
    children: Sequence[Device] = (),
    seconds: float = DEADLINE,
) -> Plugged:
    """Add a device (first what is behind it, then what stands on its bus) and watch for up to `seconds` guest seconds."""
    machine = guest.machine
    async with deadline(guest, seconds) as limit:
        started = limit.started
        try:
            await add_device(machine, device, disk, network=network, children=children)
        except RefusedError as refusal:
            return _refused_plug(refusal, started)
        accepted = machine.qmp.last_reply
        address = await address_of(machine, device.id)
        seen_soon = await guest.shell.start_wait(address.sysfs, exists=True, seconds=seconds)
        limit.go()
        seen = await seen_soon()
    in_tree, tree_line = await _in_tree(machine, device.id)
    _leave_time(machine, f"[ ! -e {address.sysfs} ]", "guest sysfs: the device", seconds)
    latency = round(seen.seconds - started, 3) if seen.came else None
    came = f"there after {latency:.1f} s" if latency is not None else f"not there after {seconds:.0f} s"
    findings = (
        _finding("QMP reply", "device_add accepted", "accepted", accepted),
        _finding("QEMU device tree", "device there", "there" if in_tree else "not there", tree_line),
        _finding("guest sysfs", f"{address} there", came, seen.evidence),
    )
    outcome = PlugOutcome.PRESENT if seen.came else PlugOutcome.IGNORED
    return Plugged(outcome=outcome, started=started, latency=latency, address=address, findings=findings)


async def plug_parts(guest: Guest, parts: DeviceParts, *, seconds: float = DEADLINE) -> Plugged:
    """Plug a device with everything that belongs to it."""
    return await plug(
        guest, parts.device, disk=parts.disk, network=parts.network, children=parts.children, seconds=seconds
    )


async def add_device(
    machine: Machine,
    device: Device,
    disk: Disk | None = None,
    *,
    network: Network | None = None,
    children: Sequence[Device] = (),
) -> None:
    """Add a device, first the disk or network behind it, last its children; raise RefusedError with QEMU's words."""
    added = [machine.typed(each) for each in (device, *children)]
    if disk is not None:
        machine.make_disk(disk)
        await machine.qmp.execute("blockdev-add", blockdev(disk, machine.rundir))
    if network is not None:
        await machine.qmp.execute("netdev_add", netdev(network))
    for arguments in added:
        await machine.qmp.execute("device_add", arguments)


async def release_backends(machine: Machine, parts: DeviceParts) -> None:
    """Remove what stood behind a device that is gone, so that the same device can be plugged anew."""
    if parts.disk is not None:
        await machine.qmp.execute("blockdev-del", {"node-name": parts.disk.id})
    if parts.network is not None:
        await machine.qmp.execute("netdev_del", {"id": parts.network.id})


async def rescan(guest: Guest) -> None:
    """Let the guest scan its PCI buses anew."""
    await guest.act("echo 1 > /sys/bus/pci/rescan")


def event_words(event: Event | None, when: str) -> str:
    """Return an event's name and time, or just the time."""
    return f"{event.name} {when}" if event else when


async def _is_gone(machine: Machine, device_id: str) -> bool:
    children = await machine.qmp.look("qom-list", _PERIPHERAL)
    return all(child["name"] != device_id for child in children)


async def _in_tree(machine: Machine, device_id: str) -> tuple[bool, str]:
    children = await machine.qmp.execute("qom-list", _PERIPHERAL)
    return any(child["name"] == device_id for child in children), machine.qmp.last_reply


def _unplug_outcome(*, deleted: bool, gone: bool) -> UnplugOutcome:
    if deleted:
        return UnplugOutcome.DELETED if gone else UnplugOutcome.LEFT_IN_GUEST
    return UnplugOutcome.LEFT_IN_QEMU if gone else UnplugOutcome.IGNORED


def _refused(refusal: RefusedError, started: float) -> Unplugged:
    busy = "busy" in refusal.description
    finding = _finding("QMP reply", "device_del accepted", refusal.description, refusal.evidence)
    outcome = UnplugOutcome.BUSY if busy else UnplugOutcome.REFUSED
    return Unplugged(outcome=outcome, started=started, latency=None, findings=(finding,))


def _refused_plug(refusal: RefusedError, started: float) -> Plugged:
    finding = _finding("QMP reply", "device_add accepted", refusal.description, refusal.evidence)
    return Plugged(outcome=PlugOutcome.REFUSED, started=started, latency=None, address=None, findings=(finding,))


def _finding(subject: str, expected: str, observed: str, evidence: str) -> Finding:
    return Finding(subject=subject, expected=expected, observed=observed, evidence=evidence)


def _leave_time(machine: Machine, unsettled: str, subject: str, seconds: float) -> None:
    """Let a reproduction wait in the guest as long as the bed did, and say how it ended."""
    waiting = f"n=0; while {unsettled} && [ $n -lt {round(seconds)} ]; do sleep 1; n=$((n+1)); done"
    there = unsettled.replace("[ ! -e", "[ -e")
    machine.journal.step(
        "guest",
        f'{waiting}; {there} && echo "{subject} is there after $n s" || echo "{subject} is gone after $n s"',
    )

"""Plug and unplug what has no place of its own that could be told beforehand: USB devices, SCSI units, memory, CPUs.

`hotplug.plug` watches the one path of a device whose place is known (`guest/place.py`). Here the witnesses are QMP,
QEMU's tree and what comes and goes meanwhile among the guest's /sys/bus/*/devices. The guest is looked at every quarter
of a guest second, so that its times are that exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.actions.hotplug import DEADLINE, Plugged, PlugOutcome, add_parts, refused_plug
from testbed.actions.unplug import EVENTS, Unplugged, UnplugOutcome, refused, unplug_outcome
from testbed.actions.witness import Witness, in_tree, is_gone
from testbed.guest.files import show
from testbed.model.errors import RefusedError
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.machine.launch import Machine
    from testbed.machine.qmp import EventWaiter
    from testbed.model.device_kind import DeviceParts

#: a type of QEMU's (qom-list-types), and the bus in whose /sys/bus folder Linux has such devices
_BUSES = {"usb-device": "usb", "scsi-device": "scsi", "memory-device": "memory", "cpu": "cpu"}
#: guest seconds between two looks
_STEP = 0.25
#: guest seconds that are left to the event once the device is gone: of a CPU QEMU 7.2 tells only that its lapic went
_EVENT_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class _Look:
    """The devices on one of the guest's buses at one moment."""

    names: frozenset[str]
    seconds: float  #: guest seconds
    evidence: str


async def guest_bus(machine: Machine, driver: str) -> str:
    """Return the bus on which a guest shows devices of a driver of QEMU's; empty where that is not known."""
    for kind, bus in _BUSES.items():
        types = await machine.qmp.execute_unlogged("qom-list-types", {"implements": kind})
        if any(each["name"] == driver for each in types):
            return bus
    return ""


async def plug_on_bus(guest: Guest, parts: DeviceParts, *, seconds: float = DEADLINE) -> Plugged:
    """Add a device that is no PCI function and watch for up to `seconds` guest seconds.

    Where it is not known how a guest shows the device, QEMU's word counts.
    """
    machine, device_id = guest.machine, parts.device.id
    bus = await guest_bus(machine, parts.device.driver)
    before = await _look(guest, bus)
    try:
        await add_parts(machine, parts)
    except RefusedError as refusal:
        return refused_plug(refusal, before.seconds)
    accepted = machine.qmp.last_reply
    there, tree_line = await in_tree(machine, device_id)
    now = await _look(guest, bus)
    while bus and now.names <= before.names and now.seconds < before.seconds + seconds:
        await guest.shell.sleep(_STEP)
        now = await _look(guest, bus)
    seen_at = now.seconds
    if now.names > before.names:  # what belongs to it follows: a USB device's interfaces, a disk's target
        await guest.shell.sleep(_STEP)
        now = await _look(guest, bus)
    new = now.names - before.names
    latency = round(seen_at - before.seconds, 3) if new else None
    seen = f"{_list(new)} there after {latency:.1f} s" if new else f"nothing new after {seconds:.0f} s"
    findings = [
        Finding(subject="QMP reply", expected="device_add accepted", observed="accepted", evidence=accepted),
        Finding(
            subject="QEMU device tree",
            expected="device there",
            observed="there" if there else "not there",
            evidence=tree_line,
        ),
    ]
    if bus:
        subject = f"guest sysfs, bus {bus}"
        findings.append(Finding(subject=subject, expected="something new", observed=seen, evidence=now.evidence))
    outcome = PlugOutcome.PRESENT if new or not bus else PlugOutcome.IGNORED
    return Plugged(outcome=outcome, started=before.seconds, latency=latency, place=None, findings=tuple(findings))


async def unplug_from_bus(guest: Guest, device_id: str, driver: str, *, seconds: float = DEADLINE) -> Unplugged:
    """Ask for the removal of a device that is no PCI function and watch for up to `seconds` guest seconds."""
    machine = guest.machine
    bus = await guest_bus(machine, driver)
    before = await _look(guest, bus)
    with machine.qmp.listen(*EVENTS, device=device_id) as settled:
        try:
            await machine.qmp.execute("device_del", {"id": device_id})
        except RefusedError as refusal:
            return refused(device_id, refusal, before.seconds)
        leaving = _Leaving(
            guest=guest, device_id=device_id, bus=bus, before=before, settled=settled, request=machine.qmp.last_reply
        )
        return await leaving.watched(seconds)


@dataclass(kw_only=True)
class _Leaving:
    """A device that is to go, and when each witness saw that it had."""

    guest: Guest
    device_id: str
    bus: str
    before: _Look
    settled: EventWaiter
    request: str
    event: float | None = None  #: guest seconds
    tree: float | None = None
    sysfs: float | None = None
    gone: frozenset[str] = frozenset()
    evidence: str = ""

    async def watched(self, seconds: float) -> Unplugged:
        """Look until all have seen it go, the guest has refused, or the time is over."""
        await self._look()
        while not self._over and self.guest.shell.seconds < self.before.seconds + seconds:
            await self.guest.shell.sleep(_STEP)
            await self._look()
        if self.gone:  # and what belongs to it
            await self.guest.shell.sleep(_STEP)
            await self._look()
        witnesses = await self._witnesses(seconds)
        last = self.sysfs if self.bus else self.tree
        outcome = unplug_outcome(deleted=self.tree is not None, gone=last is not None)
        return Unplugged(
            device_id=self.device_id,
            outcome=UnplugOutcome.REFUSED if self._refused else outcome,
            started=self.before.seconds,
            latency=self._since(self.event),
            waited=seconds,
            witnesses=witnesses,
        )

    @property
    def _refused(self) -> bool:
        return self.settled.event is not None and self.settled.event.name == EVENTS[1]

    @property
    def _over(self) -> bool:
        if self._refused:
            return True
        gone = (self.tree, self.sysfs) if self.bus else (self.tree,)
        late = max(each or 0.0 for each in gone) + _EVENT_SECONDS
        return None not in gone and (self.event is not None or self.guest.shell.seconds >= late)

    async def _look(self) -> None:
        now = await _look(self.guest, self.bus)
        self.gone, self.evidence = self.before.names - now.names, now.evidence
        if self.sysfs is None and self.gone:
            self.sysfs = now.seconds
        if self.tree is None and await is_gone(self.guest.machine, self.device_id):
            self.tree = now.seconds
        if self.event is None and self.settled.event:
            self.event = now.seconds

    async def _witnesses(self, seconds: float) -> tuple[Witness, ...]:
        event = self.settled.event
        _, tree_line = await in_tree(self.guest.machine, self.device_id)
        told = Witness(
            name="QMP event",
            expected=EVENTS[0],
            seconds=self._since(self.event),
            change=event.name if event else "",
            unchanged=f"none in {min(self.guest.shell.seconds - self.before.seconds, seconds):.0f} s",
            evidence=event.evidence if event else self.request,
        )
        tree = Witness(
            name="QEMU device tree",
            expected="device gone",
            seconds=self._since(self.tree),
            change="gone",
            unchanged="still there",
            evidence=tree_line,
        )
        sysfs = Witness(
            name=f"guest sysfs, bus {self.bus}",
            expected="something gone",
            seconds=self._since(self.sysfs),
            change=f"{_list(self.gone)} gone",
            unchanged=f"nothing gone after {seconds:.0f} s",
            evidence=self.evidence,
        )
        return (told, tree, sysfs) if self.bus else (told, tree)

    def _since(self, seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds - self.before.seconds, 3)


async def _look(guest: Guest, bus: str) -> _Look:
    if not bus:
        return _Look(names=frozenset(), seconds=await guest.shell.clock(), evidence="shell.jsonl")
    shown = await show(guest, f"/sys/bus/{bus}/devices/*")
    names = frozenset(PurePosixPath(path).name for path in shown.links)
    return _Look(names=names, seconds=guest.shell.seconds, evidence=shown.evidence)


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))

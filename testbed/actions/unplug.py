"""Unplug devices while the guest runs, watched by three witnesses each: QMP, QEMU's tree, the guest's sysfs."""

from __future__ import annotations

import contextlib
import enum
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from testbed.actions.hotplug import DEADLINE
from testbed.actions.witness import Witness, in_tree, is_gone, leave_time
from testbed.guest.deadline import Awaited, deadline
from testbed.guest.pci import addresses
from testbed.model.errors import BrokenError, RefusedError
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from testbed.guest.deadline import Arrival, Deadline
    from testbed.guest.guest import Guest
    from testbed.guest.place import Place
    from testbed.guest.shell import Command, Waited
    from testbed.machine.qmp import EventWaiter

#: how QEMU says that a request has been settled
EVENTS = ("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR")


class UnplugOutcome(enum.StrEnum):
    """What became of a device after its removal was requested; a crash of the guest or QEMU raises instead."""

    DELETED = "deleted"  #: gone for all three witnesses
    REFUSED = "refused"  #: QEMU or the guest said no
    BUSY = "busy"  #: QEMU said no because the slot's indicator blinks
    IGNORED = "ignored"  #: still there for all three at the deadline
    LEFT_IN_GUEST = "left-in-guest"  #: deleted in QEMU, still in the guest's sysfs
    LEFT_IN_QEMU = "left-in-qemu"  #: removed by the guest, still in QEMU


@dataclass(frozen=True, kw_only=True)
class Unplugged:
    """What became of one device."""

    device_id: str
    outcome: UnplugOutcome
    started: float  #: guest seconds at the request
    latency: float | None  #: guest seconds to the event that settled it
    waited: float = 0.0  #: guest seconds it was watched for at most
    witnesses: tuple[Witness, ...] = ()
    refusal: Finding | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the refusal, or what each witness saw and when."""
        return (self.refusal,) if self.refusal else tuple(each.finding for each in self.witnesses)

    @property
    def settled(self) -> float:
        """Return the guest seconds until the last witness saw it go, 0 if none did."""
        return max((each.seconds or 0.0 for each in self.witnesses), default=0.0)


@dataclass(kw_only=True)
class _Leaving:
    """One device that is to go, and what is known of it so far."""

    device_id: str
    place: Place
    answer: Awaited
    sysfs: Callable[[], Awaitable[Waited]]
    refusal: RefusedError | None = None
    tree_seconds: float | None = None


@dataclass(kw_only=True)
class Removal:
    """Devices that are to go, in a deadline that has begun; the guest is held until `over`."""

    guest: Guest
    limit: Deadline
    seconds: float  #: guest seconds of the deadline
    request: str  #: where the latest request stands
    leaving: list[_Leaving] = field(default_factory=list)

    async def ask(self, device_id: str) -> RefusedError | None:
        """Send `device_del`; return QEMU's refusal if it refused."""
        machine = self.guest.machine
        try:
            await machine.qmp.execute("device_del", {"id": device_id})
        except RefusedError as refusal:
            return refusal
        self.request = machine.qmp.last_reply
        return None

    async def ask_guest(self, command: str) -> Command:
        """Let the guest do it itself; the command runs on while the guest's time passes."""
        self.guest.machine.journal.step("guest", command)
        self.request = "shell.jsonl"
        return await self.guest.shell.start(command)

    async def ask_guest_verb(self, *words: str) -> Command:
        """Let the guest's init do it itself, without a program; a reproduction can only say so."""
        self.guest.machine.journal.step("say", f"done by the test bed's init, not repeated here: {' '.join(words)}")
        self.request = "shell.jsonl"
        return await self.guest.shell.start_verb(*words)

    async def over(self) -> list[Unplugged]:
        """Let the guest's time pass until every device is gone or the deadline is over."""
        for each in self.leaving:
            subject = f"guest sysfs: {each.device_id}"
            leave_time(self.guest.machine, f"[ -e {each.place.sysfs} ]", subject, self.seconds)
        self.limit.go(*(each.answer for each in self.leaving))
        await self.limit.passed()
        await self.limit.close()
        return [await self._result(each) for each in self.leaving]

    async def look(self, index: int) -> bool:
        """Return whether QEMU has deleted the device, and note when that was first seen."""
        gone = await is_gone(self.guest.machine, self.leaving[index].device_id)
        if gone and self.limit.held and self.leaving[index].tree_seconds is None:
            self.leaving[index].tree_seconds = self.limit.seconds
        return gone

    async def _result(self, leaving: _Leaving) -> Unplugged:
        # the event may come before the guest's sysfs is clean, and the other way round: hear both to the end
        sysfs = await leaving.sysfs()
        arrival = leaving.answer.arrival
        event = self._event_witness(arrival)
        tree = await self._tree_witness(leaving)
        guest = self._guest_witness(leaving, sysfs)
        refused = arrival is not None and arrival.event.name == EVENTS[1]
        outcome = unplug_outcome(deleted=tree.seconds is not None, gone=sysfs.came)
        return Unplugged(
            device_id=leaving.device_id,
            outcome=UnplugOutcome.REFUSED if refused else outcome,
            started=self.limit.started,
            latency=event.seconds,
            waited=self.seconds,
            witnesses=(event, tree, guest),
        )

    def _event_witness(self, arrival: Arrival | None) -> Witness:
        return Witness(
            name="QMP event",
            expected=EVENTS[0],
            seconds=self._since(arrival.seconds if arrival else None),
            change=arrival.event.name if arrival else "",
            unchanged=f"none in {self.seconds:.0f} s",
            evidence=arrival.event.evidence if arrival else self.request,
        )

    async def _tree_witness(self, leaving: _Leaving) -> Witness:
        there, line = await in_tree(self.guest.machine, leaving.device_id)
        arrival = leaving.answer.arrival
        # QEMU takes a device out of its tree and then tells
        gone_at = leaving.tree_seconds or (arrival.seconds if arrival else self.limit.seconds)
        return Witness(
            name="QEMU device tree",
            expected="device gone",
            seconds=None if there else self._since(gone_at),
            change="gone",
            unchanged="still there",
            evidence=line,
        )

    def _guest_witness(self, leaving: _Leaving, sysfs: Waited) -> Witness:
        return Witness(
            name="guest sysfs",
            expected=f"{leaving.place} gone",
            seconds=self._since(sysfs.seconds if sysfs.came else None),
            change="gone",
            unchanged=f"still there after {self.seconds:.0f} s",
            evidence=sysfs.evidence,
        )

    def _since(self, seconds: float | None) -> float | None:
        """Return the guest seconds since the begin; a clock read a moment before it counts as the same moment."""
        return None if seconds is None else round(max(seconds - self.limit.started, 0.0), 3)


@contextlib.asynccontextmanager
async def removal(
    guest: Guest, *device_ids: str, seconds: float = DEADLINE, elsewhere: Mapping[str, Place] | None = None
) -> AsyncIterator[Removal]:
    """Begin a deadline of `seconds` guest seconds in which these devices are to go, and listen for each of them.

    Those `elsewhere` than on a PCI bus are given with their places.
    """
    qmp = guest.machine.qmp
    places = {**await addresses(guest.machine), **(elsewhere or {})}
    for each in device_ids:
        if each not in places:
            raise BrokenError(f"query-pci: device {each} is not there")
    with contextlib.ExitStack() as stack:
        waiters = {each: stack.enter_context(qmp.listen(*EVENTS, device=each)) for each in device_ids}
        devices = {each: (places[each], waiters[each]) for each in device_ids}
        async with watched(guest, devices, seconds=seconds) as going:
            yield going


@contextlib.asynccontextmanager
async def watched(
    guest: Guest, devices: Mapping[str, tuple[Place, EventWaiter]], *, seconds: float, request: str = ""
) -> AsyncIterator[Removal]:
    """Begin a deadline for devices whose places are known and whose events are listened for already.

    `request` is where the request is recorded, if it has been made.
    """
    async with deadline(guest, seconds) as limit:
        going = Removal(guest=guest, limit=limit, seconds=seconds, request=request or guest.machine.qmp.last_reply)
        for index, (device_id, (place, waiter)) in enumerate(devices.items()):
            going.leaving.append(
                _Leaving(
                    device_id=device_id,
                    place=place,
                    answer=Awaited(answer=waiter, done=partial(going.look, index)),
                    sysfs=await guest.shell.start_wait(place.sysfs, exists=False, seconds=seconds),
                )
            )
        yield going


async def unplug(
    guest: Guest, device_id: str, *, seconds: float = DEADLINE, then: Callable[[], Awaitable[None]] | None = None
) -> Unplugged:
    """Ask for a device's removal and watch for up to `seconds` guest seconds.

    `then` is done while the request is pending, with the machine stopped.
    """
    async with removal(guest, device_id, seconds=seconds) as going:
        async with guest.stopped() if then else contextlib.nullcontext():
            if refusal := await going.ask(device_id):
                return refused(device_id, refusal, going.limit.started)
            if then:
                await then()
        return (await going.over())[0]


async def unplug_together(guest: Guest, device_ids: Sequence[str], *, seconds: float = DEADLINE) -> list[Unplugged]:
    """Ask for the removal of several devices in one moment of the guest's, and watch them all."""
    async with removal(guest, *device_ids, seconds=seconds) as going:
        refusals = {each: await going.ask(each) for each in device_ids}
        results = await going.over()
    return [_with_refusal(each, refusals[each.device_id]) for each in results]


def refused(device_id: str, refusal: RefusedError, started: float) -> Unplugged:
    """Return the result of a request that QEMU refused."""
    finding = Finding(
        subject="QMP reply",
        expected="device_del accepted",
        observed=refusal.description,
        evidence=refusal.evidence,
    )
    outcome = UnplugOutcome.BUSY if "busy" in refusal.description else UnplugOutcome.REFUSED
    return Unplugged(device_id=device_id, outcome=outcome, started=started, latency=None, refusal=finding)


def _with_refusal(result: Unplugged, refusal: RefusedError | None) -> Unplugged:
    return refused(result.device_id, refusal, result.started) if refusal else result


def unplug_outcome(*, deleted: bool, gone: bool) -> UnplugOutcome:
    """Return what it means that QEMU has deleted a device, or not, and that it is gone from the guest, or not."""
    if deleted:
        return UnplugOutcome.DELETED if gone else UnplugOutcome.LEFT_IN_GUEST
    return UnplugOutcome.LEFT_IN_QEMU if gone else UnplugOutcome.IGNORED

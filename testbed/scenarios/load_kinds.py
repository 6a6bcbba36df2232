"""The kinds of load: what each starts in the guest, and what its counts mean."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from testbed.guest.disk_writer import BLOCK, check_image, start_writers
from testbed.guest.frame_sender import lost_frames, start_frames
from testbed.guest.register_reader import NOT_MAPPED, start_reads
from testbed.machine.argv import disk_path
from testbed.model.device_kind import cold_parts
from testbed.model.errors import BrokenError, UnsupportedError
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from testbed.actions.register import Access
    from testbed.guest.disk_writer import DiskWriters, WriterReport
    from testbed.guest.guest import Guest
    from testbed.guest.load import BusyVerbs, Tally
    from testbed.model.pci import Bdf
    from testbed.model.spec import Device

_WRITERS = 4
#: where they begin: the proof of life has written before that
_FIRST_BLOCK = 16
#: guest seconds without an answer after which a device that should answer again counts as dead
_RESUMED_SECONDS = 0.5


class Fate(enum.Enum):
    """What the stimulus does to the device that is kept busy."""

    STAYS = "stays"  #: nothing: it is another device's business, or was refused
    DISTURBED = "disturbed"  #: it may fail for a while, and must work again
    GONE = "gone"  #: it was taken away
    RESET = "reset"  #: the guest was reset, and all that was at work in it ended


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What became of a load."""

    summary: str
    findings: tuple[Finding, ...]
    failure: str = ""  #: the outcome of what makes it bad; empty if nothing does


class LoadKind(Protocol):
    """One load at work."""

    #: whether it ends by an error once its device is gone; Linux 6.1 leaves a process the mapping of a BAR that is gone
    ends: ClassVar[bool]

    @property
    def what(self) -> str:
        """Return who keeps what busy."""

    @property
    def verbs(self) -> BusyVerbs:
        """Return what is at work in the guest."""

    async def result(self, fate: Fate, *, marked: float, stopped: float) -> LoadResult:
        """Judge what was counted; both times in guest seconds."""


def gap_finding(what: str, tallies: list[Tally]) -> Finding:
    """Return the longest time between two answers, and what it was before the request."""
    before, after = max(each.before_ms for each in tallies), max(each.after_ms for each in tallies)
    return Finding(
        subject=f"{what}: longest gap",
        expected=f"any; {before:.0f} ms before the request",
        observed=f"{after:.0f} ms",
        evidence=tallies[0].evidence,
    )


@dataclass(frozen=True, kw_only=True)
class DiskLoad:
    """Writers on a disk."""

    ends: ClassVar[bool] = True
    device: str
    image: Path
    verbs: DiskWriters

    @property
    def what(self) -> str:
        """Return who keeps what busy."""
        return f"{_WRITERS} writers on {self.device}"

    async def result(self, fate: Fate, *, marked: float, stopped: float) -> LoadResult:
        """Look for every acknowledged write in the image; an error is good only where the disk was taken away."""
        del stopped
        reports = await self.verbs.reports()
        image = await check_image(reports, self.image)
        gap = gap_finding(self.what, [*reports])
        failure = "data-lost" if "lost" in image.observed else ""
        if fate not in (Fate.GONE, Fate.RESET) and any(each.error for each in reports):
            failure = failure or "write-failed"
        end = self._end(reports, fate, marked)
        if fate is Fate.RESET:
            # the writers ended with their guest: nothing comes after the mark
            return LoadResult(summary=image.observed, findings=(end, image), failure=failure)
        return LoadResult(
            summary=f"{image.observed}, longest gap {gap.observed}", findings=(end, image, gap), failure=failure
        )

    def _end(self, reports: list[WriterReport], fate: Fate, marked: float) -> Finding:
        last = max(each.last for each in reports) - marked
        error = next((each.error for each in reports if each.error), "told to end")
        error = "ended with the guest" if fate is Fate.RESET else error
        wanted = {
            Fate.GONE: "at work when the request came, then an error",
            Fate.RESET: "at work when the reset came",
        }.get(fate, "told to end, no error")
        return Finding(
            subject=self.what,
            expected=wanted,
            observed=f"last one acknowledged {last:+.1f} s from the request; {error}",
            evidence=reports[0].evidence,
        )


@dataclass(frozen=True, kw_only=True)
class NetLoad:
    """Frames that must come back."""

    ends: ClassVar[bool] = True
    interface: str
    verbs: BusyVerbs

    @property
    def what(self) -> str:
        """Return who keeps what busy."""
        return f"frames on {self.interface}"

    async def result(self, fate: Fate, *, marked: float, stopped: float) -> LoadResult:
        """Count what did not come back: bad where nothing was done to the card, or nothing comes back any more."""
        del marked
        (tally,) = await self.verbs.tallies()
        lost, sent, before = lost_frames(tally), tally.counts.get("sent", 0), tally.counts.get("lost_before", 0)
        if before:
            raise BrokenError(f"starting state: {before} {self.what} were lost before the request")
        wanted = {Fate.STAYS: "none lost", Fate.DISTURBED: "they come back afterwards", Fate.GONE: "any"}[fate]
        refused = f", {tally.counts['refused']} of them refused by the kernel" if tally.counts.get("refused") else ""
        silent = fate is not Fate.GONE and tally.last < stopped - _RESUMED_SECONDS
        ended = f"; {tally.error}" if tally.error else "; the last ones came back" if not silent else ""
        finding = Finding(
            subject=self.what,
            expected=wanted,
            observed=f"lost {lost} of {sent}{refused}{ended}",
            evidence=tally.evidence,
        )
        gap = gap_finding(self.what, [tally])
        failure = "no-traffic" if silent or (tally.error and fate is not Fate.GONE) else ""
        if fate is Fate.STAYS and lost:
            failure = failure or "frames-lost"
        return LoadResult(
            summary=f"frames lost {lost} of {sent}, longest gap {gap.observed}",
            findings=(finding, gap),
            failure=failure,
        )


@dataclass(frozen=True, kw_only=True)
class RegisterLoad:
    """Reads of a register."""

    ends: ClassVar[bool] = False
    device: str
    access: Access
    verbs: BusyVerbs

    @property
    def what(self) -> str:
        """Return who keeps what busy."""
        return f"reads of BAR {self.access.bar} + {self.access.offset:#x} of {self.device}"

    async def result(self, fate: Fate, *, marked: float, stopped: float) -> LoadResult:
        """Count the reads that nobody answered: bad where nothing was done to the device, or it stays silent."""
        del marked
        (tally,) = await self.verbs.tallies()
        ones, changed = tally.counts.get("ones", 0), tally.counts.get("changed", 0)
        silent = fate is not Fate.GONE and (bool(tally.error) or tally.last < stopped - _RESUMED_SECONDS)
        wanted = {
            Fate.STAYS: f"{tally.counts.get('first', 0):#x} each time",
            Fate.DISTURBED: f"{tally.counts.get('first', 0):#x} again afterwards",
            Fate.GONE: "another value, or a bus error",
        }[fate]
        words = f"all ones {ones} of {tally.done + ones + changed}, another value {changed}"
        finding = Finding(
            subject=self.what,
            expected=wanted,
            observed=words
            + (f"; {tally.error}" if tally.error else f"; the last one {tally.counts.get('value', 0):#x}"),
            evidence=tally.evidence,
        )
        if fate is Fate.GONE:
            # nothing ends it but us: how long nobody has answered by then says nothing
            return LoadResult(summary=f"reads: {words}", findings=(finding,))
        gap = gap_finding(self.what, [tally])
        failure = "no-answer" if silent or (fate is Fate.STAYS and ones) else ""
        if fate is Fate.STAYS and changed:
            failure = failure or "register-changed"
        return LoadResult(
            summary=f"reads: {words}, longest gap {gap.observed}",
            findings=(finding, gap),
            failure=failure,
        )


async def load_disk(guest: Guest, device: Device) -> DiskLoad:
    """Start writers on a disk; raise UnsupportedError if it has no image."""
    spec = guest.machine.spec
    disk = cold_parts(spec, device).disk
    if disk is None:
        raise UnsupportedError(f"{device.id} has no disk image behind it", hint="give it one: -p devices=virtio-blk")
    blocks = (disk.size_mib << 20) // BLOCK - _FIRST_BLOCK
    verbs = await start_writers(guest, device.id, first=_FIRST_BLOCK, blocks=blocks, writers=_WRITERS)
    return DiskLoad(device=device.id, image=Path(disk_path(disk, guest.machine.rundir)), verbs=verbs)


async def load_net(guest: Guest, interface: str, peer: str) -> NetLoad:
    """Start frames on an interface."""
    return NetLoad(interface=interface, verbs=await start_frames(guest, interface, peer=peer))


async def load_register(guest: Guest, device: Device, address: Bdf, access: Access) -> RegisterLoad:
    """Start reads of a register; raise UnsupportedError where the kernel does not let a process map it."""
    path = f"{address.sysfs}/resource{access.bar}"
    verbs = await start_reads(guest, path, offset=access.offset, width=access.width)
    await guest.shell.sleep(_RESUMED_SECONDS)
    if verbs.ended and (tally := (await verbs.tallies())[0]).status == NOT_MAPPED:
        raise UnsupportedError(
            f"a process cannot map BAR {access.bar} of {device.id}, which its driver has: {tally.error}",
            hint="let it: --cmdline iomem=relaxed",
        )
    return RegisterLoad(device=device.id, access=access, verbs=verbs)

"""DiskWriter: a disk kept busy by numbered blocks, and whether each acknowledged one is in the image on the host."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.guest.load import BusyVerbs, Tally
from testbed.model.outcome import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.guest.guest import Guest
    from testbed.guest.shell import Command

#: as guest-images/writer.c writes them
BLOCK = 4096
_MARK = b"TBWRITER"
_RECORD = struct.Struct("<8sQ")


@dataclass(frozen=True, kw_only=True)
class WriterReport(Tally):
    """What one writer did to its range of blocks, round and round; done are the acknowledged writes."""

    first: int  #: number of its first block
    count: int  #: of blocks

    @property
    def cut_off(self) -> bool:
        """Return whether the guest ended under it: then more may have been acknowledged than it could say."""
        return self.status < 0

    def missing(self, image: Path) -> list[int]:
        """Return the blocks of the image that do not hold their latest acknowledged write, or a later one."""
        with image.open("rb") as file:
            file.seek(self.first * BLOCK)
            held = file.read(self.count * BLOCK)
        return [self.first + index for index in range(self.count) if not self._is_held(held, index)]

    def _is_held(self, held: bytes, index: int) -> bool:
        # write number n goes to block (n - 1) % count
        rounds = (self.done - index + self.count - 1) // self.count
        if rounds <= 0:
            return True  # never acknowledged
        latest = (rounds - 1) * self.count + index + 1
        if self.cut_off:
            number = _number(held[index * BLOCK : (index + 1) * BLOCK])
            return number >= latest and (number - latest) % self.count == 0
        if latest + self.count == self.done + 1:
            return True  # the next write was under way to this block: the image may hold either, or parts of both
        return held[index * BLOCK : (index + 1) * BLOCK] == block(latest)


def _number(content: bytes) -> int:
    """Return the number that a block holds throughout; 0 if it is not one write's."""
    mark, number = _RECORD.unpack_from(content) if len(content) == BLOCK else (b"", 0)
    return int(number) if mark == _MARK and content == block(number) else 0


def block(number: int) -> bytes:
    """Return what write number `number` puts into a block."""
    return _RECORD.pack(_MARK, number) * (BLOCK // _RECORD.size)


class DiskWriters(BusyVerbs):
    """Several writers at work on one disk, each in a range of its own."""

    def __init__(self, commands: Sequence[Command], ranges: Sequence[tuple[int, int]]) -> None:
        super().__init__(commands)
        self._ranges = ranges

    async def reports(self) -> list[WriterReport]:
        """Wait for their ends, and return what they did."""
        tallies = zip(await self.tallies(), self._ranges, strict=True)
        return [WriterReport(**vars(tally), first=first, count=count) for tally, (first, count) in tallies]


async def start_writers(guest: Guest, serial: str, *, first: int, blocks: int, writers: int) -> DiskWriters:
    """Keep a disk busy from block `first` on, with `writers` at once, each in a range of its own."""
    guest.machine.journal.step(
        "say", f"{writers} writers of the test bed's init are at work on {serial}, not repeated here"
    )
    count = blocks // writers
    ranges = [(first + index * count, count) for index in range(writers)]
    commands = [await guest.shell.start_verb("write-disk", serial, str(start), str(count)) for start, _ in ranges]
    return DiskWriters(commands, ranges)


async def check_image(written: Sequence[WriterReport], image: Path) -> Finding:
    """Look for every acknowledged write in the disk's image on the host."""
    missing = await asyncio.to_thread(lambda: [block for each in written for block in each.missing(image)])
    total = sum(each.done for each in written)
    lost = f"lost in {len(missing)} blocks, the first is {missing[0]}" if missing else "all there"
    return Finding(
        subject="acknowledged writes",
        expected="all in the image on the host",
        observed=f"{total} writes, {lost}",
        evidence=image.name,
    )

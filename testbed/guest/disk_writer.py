"""DiskWriter: a disk kept busy by numbered blocks, and whether each acknowledged one is in the image on the host."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
_SIGTERM = 15


@dataclass(frozen=True, kw_only=True)
class WriterReport:
    """What one writer did to its range of blocks, round and round."""

    first: int  #: number of its first block
    count: int  #: of blocks
    acknowledged: int  #: writes
    last: float  #: guest seconds of the last acknowledged one
    error: str  #: what ended it; empty if it was told to end
    evidence: str

    def missing(self, image: Path) -> list[int]:
        """Return the blocks of the image that do not hold their latest acknowledged write, or a later one."""
        with image.open("rb") as file:
            file.seek(self.first * BLOCK)
            held = file.read(self.count * BLOCK)
        return [self.first + index for index in range(self.count) if not self._is_held(held, index)]

    def _is_held(self, held: bytes, index: int) -> bool:
        # write number n goes to block (n - 1) % count
        rounds = (self.acknowledged - index + self.count - 1) // self.count
        if rounds <= 0:
            return True  # never acknowledged
        latest = (rounds - 1) * self.count + index + 1
        if latest + self.count == self.acknowledged + 1:
            return True  # the next write was under way to this block: the image may hold either, or parts of both
        return held[index * BLOCK : (index + 1) * BLOCK] == block(latest)


def block(number: int) -> bytes:
    """Return what write number `number` puts into a block."""
    return _RECORD.pack(_MARK, number) * (BLOCK // _RECORD.size)


class DiskWriters:
    """Several writers at work on one disk."""

    def __init__(self, guest: Guest, commands: Sequence[tuple[Command, int, int]]) -> None:
        self._guest = guest
        self._commands = commands

    @property
    def ended(self) -> bool:
        """Return whether all have ended."""
        return all(command.ended for command, _, _ in self._commands)

    async def stop(self) -> None:
        """Tell those that still run to end after their current write."""
        for command, _, _ in self._commands:
            if not command.ended:
                await command.kill(_SIGTERM)

    async def results(self) -> list[WriterReport]:
        """Wait for their ends, and return what they did."""
        return [await _written(command, first, count) for command, first, count in self._commands]


async def start_writers(guest: Guest, serial: str, *, first: int, blocks: int, writers: int) -> DiskWriters:
    """Keep a disk busy from block `first` on, with `writers` at once, each in a range of its own."""
    guest.machine.journal.step(
        "say", f"{writers} writers of the test bed's init are at work on {serial}, not repeated here"
    )
    count = blocks // writers
    commands = []
    for index in range(writers):
        start = first + index * count
        command = await guest.shell.start_verb("write-disk", serial, str(start), str(count))
        commands.append((command, start, count))
    return DiskWriters(guest, commands)


async def _written(command: Command, first: int, count: int) -> WriterReport:
    result = await command.wait()
    words = result.text.split()
    done, last = (int(words[1]), float(words[2])) if words[:1] == ["acknowledged"] and len(words) == 3 else (0, 0.0)
    return WriterReport(
        first=first, count=count, acknowledged=done, last=last, error=result.error, evidence=result.evidence
    )


async def check_image(written: Sequence[WriterReport], image: Path) -> Finding:
    """Look for every acknowledged write in the disk's image on the host."""
    missing = await asyncio.to_thread(lambda: [block for each in written for block in each.missing(image)])
    total = sum(each.acknowledged for each in written)
    lost = f"lost in {len(missing)} blocks, the first is {missing[0]}" if missing else "all there"
    return Finding(
        subject="acknowledged writes",
        expected="all in the image on the host",
        observed=f"{total} writes, {lost}",
        evidence=image.name,
    )

"""How much memory the process of the test bed takes while something goes on."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: wall seconds between two looks
_PACE = 0.02


def resident_kib() -> int:
    """Return what of this process is in memory now, in KiB; its peak would be that of an earlier test."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").split("\n")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@dataclass(kw_only=True)
class Growth:
    """The most by which the process was larger than at the begin."""

    begin: int  #: KiB
    kib: int = 0

    def look(self) -> None:
        """Take a sample."""
        self.kib = max(self.kib, resident_kib() - self.begin)


@contextlib.asynccontextmanager
async def growth() -> AsyncIterator[Growth]:
    """Measure for as long as this is entered."""
    grown = Growth(begin=resident_kib())

    async def look_often() -> None:
        while True:
            grown.look()
            await asyncio.sleep(_PACE)

    looking = asyncio.create_task(look_often())
    try:
        yield grown
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        grown.look()

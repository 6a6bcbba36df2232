"""Memory: how much of it guests may take, measured, and a budget that keeps them within it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.cgroup import ControlGroups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_MEMINFO = Path("/proc/meminfo")
_RETRY_SECONDS = 0.5
#: MiB that QEMU takes beside the guest's memory: its own, and the code it translates under TCG
OVERHEAD = 192
#: MiB that are left to others
_RESERVE = 256


def available_mib() -> int:
    """Return how many MiB could be taken now without swapping, within this process's control group."""
    text = _MEMINFO.read_text(encoding="ascii")
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    host = int(found[1]) // 1024 if found else 0
    limit = ControlGroups().free_mib()
    return host if limit is None else min(host, limit)


def guests_that_fit(guest_mib: int) -> int:
    """Return for how many guests of that memory there is room now; one runs whatever there is."""
    return max(1, (available_mib() - _RESERVE) // (guest_mib + OVERHEAD))


class MemoryBudget:
    """What guests of this process may take together.

    A guest takes its memory as it touches it, so what is free now says little while some run: those that run count
    with all that they may take, and other processes with what they took since.
    """

    def __init__(self, measure: Callable[[], int] = available_mib) -> None:
        self._measure = measure
        self._total = measure() - _RESERVE
        self._taken = 0
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def held(self, guest_mib: int, *, on_wait: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """Hold the memory of a guest, waiting until there is enough; one that never fits runs alone."""
        wanted = guest_mib + OVERHEAD
        if not self._fits(wanted):
            on_wait()
            await self._room(wanted)
        self._taken += wanted
        try:
            yield
        finally:
            self._taken -= wanted
            self._changed.set()

    async def _room(self, wanted: int) -> None:
        while not self._fits(wanted):
            self._changed.clear()
            # other processes end without a word
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _RETRY_SECONDS)

    def _fits(self, wanted: int) -> bool:
        if self._taken == 0:
            self._total = self._measure() - _RESERVE
            return True
        return self._taken + wanted <= self._total and wanted <= self._measure() - _RESERVE

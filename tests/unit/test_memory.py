"""How much memory guests may take together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from testbed.host.memory import OVERHEAD, MemoryBudget, available_mib, guests_that_fit

if TYPE_CHECKING:
    import pytest


class _Host:
    def __init__(self, free: int) -> None:
        self.free = free

    def measure(self) -> int:
        return self.free


async def _order(free: int, guests: list[int]) -> int:
    """Return how many guests ran at once at most."""
    budget = MemoryBudget(_Host(free).measure)
    running = most = 0

    async def guest(mib: int) -> None:
        nonlocal running, most
        async with budget.held(mib):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1

    async with asyncio.TaskGroup() as group:
        for mib in guests:
            group.create_task(guest(mib))
    return most


async def test_guests_wait_for_memory() -> None:
    need = 512 + OVERHEAD
    assert await _order(4 * need, [512] * 6) == 3
    assert await _order(100 * need, [512] * 6) == 6


async def test_a_guest_that_never_fits_runs_alone() -> None:
    assert await _order(256, [4096, 4096, 512]) == 1


async def test_what_others_take_meanwhile_counts() -> None:
    host = _Host(10_000)
    budget = MemoryBudget(host.measure)
    waited = asyncio.Event()
    async with budget.held(512):
        host.free = 600

        async def second() -> None:
            async with budget.held(512, on_wait=waited.set):
                pass

        task = asyncio.create_task(second())
        await asyncio.wait_for(waited.wait(), 5)
        host.free = 10_000
        await asyncio.wait_for(task, 5)


def test_as_many_guests_fit_as_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.host.memory.available_mib", lambda: 256 + 3 * (512 + OVERHEAD))
    assert guests_that_fit(512) == 3
    monkeypatch.setattr("testbed.host.memory.available_mib", lambda: 100)
    assert guests_that_fit(512) == 1


def test_this_host_has_memory() -> None:
    assert available_mib() > 0

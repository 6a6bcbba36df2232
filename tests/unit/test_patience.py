"""A limit of wall time that moves by what a busy host takes from QEMU."""

from __future__ import annotations

import asyncio
import time

import pytest

from testbed.machine.patience import limited


async def test_on_an_idle_host_the_limit_is_what_was_said() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        async with limited(0.3, lambda: 17.0):
            await asyncio.Event().wait()
    assert 0.3 <= time.monotonic() - begun < 3


async def test_what_the_host_takes_is_not_counted() -> None:
    begun = time.monotonic()
    # a QEMU that gets half of the time
    with pytest.raises(TimeoutError):
        async with limited(0.5, lambda: (time.monotonic() - begun) / 2):
            await asyncio.Event().wait()
    assert time.monotonic() - begun > 0.8


async def test_an_answer_within_the_time_that_was_added_counts() -> None:
    begun = time.monotonic()
    async with limited(0.3, lambda: time.monotonic() - begun):
        await asyncio.sleep(1)
    # and the limit is gone with the block
    await asyncio.sleep(0.1)


async def test_a_host_that_gives_nothing_at_all_does_not_keep_anybody_waiting_for_ever() -> None:
    with pytest.raises(TimeoutError):
        async with limited(0.1, lambda: time.monotonic() * 100):
            await asyncio.Event().wait()

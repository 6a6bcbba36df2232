"""Guest slots: how many guests run on this host at once, whoever starts them.

A slot is a locked file in the cache folder; the kernel gives it back when its holder dies. Two runs, or the workers of
a parallel pytest, so share the cores instead of slowing each other into their deadlines.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from testbed.host.cache import cache_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

_RETRY_SECONDS = 0.2


def core_count() -> int:
    """Return how many cores this process may use: the number of guests that run well at once."""
    return max(1, len(os.sched_getaffinity(0)))


@contextlib.asynccontextmanager
async def guest_slot(*, count: int, on_wait: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Hold one of the host's first `count` guest slots, waiting until one is free."""
    folder = cache_folder("slots")
    told = False
    while (slot := _take(folder, count)) is None:
        if not told:
            on_wait()
            told = True
        # other processes hold the locks: there is nothing to be woken by
        await asyncio.sleep(_RETRY_SECONDS)
    try:
        yield
    finally:
        os.close(slot)


def _take(folder: Path, count: int) -> int | None:
    """Lock a free slot and return its descriptor, or None if all are taken."""
    for path in _paths(folder, count):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return descriptor
    return None


def _paths(folder: Path, count: int) -> Iterator[Path]:
    return (folder / f"{number}.lock" for number in range(count))

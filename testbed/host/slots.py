"""Guest slots: how many guests run on this host at once, whoever starts them.

A slot is a locked file in the cache folder; the kernel gives it back when its holder dies. Two runs, or the workers of
a parallel pytest, so share the cores instead of slowing each other into their deadlines. A guest that only waits in
real time needs no core: its slot goes to another meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

from testbed.host.cache import cache_folder
from testbed.host.cgroup import ControlGroups
from testbed.host.file_lock import lock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

_RETRY_SECONDS = 0.2


def core_count() -> int:
    """Return how many cores this process and its control groups may use: the number of guests that run well at once."""
    mine = len(os.sched_getaffinity(0))
    quota = ControlGroups().cpus()
    return mine if quota is None else max(1, min(mine, int(quota)))


@contextlib.asynccontextmanager
async def guest_slot(*, count: int, on_wait: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """Hold one of the host's first `count` guest slots, waiting until one is free."""
    slot = _Slot(count)
    if not slot.take():
        on_wait()
        await slot.wait()
    _HELD.set(slot)
    try:
        yield
    finally:
        _HELD.set(None)
        slot.give_up()


@contextlib.contextmanager
def slot_for_helper(*, count: int, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a guest slot for a guest that serves the test bed itself and is waited for without asyncio.

    A process whose own guests hold slots goes on without one: while it waits here they cannot end.
    """
    slot = _Slot(count)
    if not slot.take() and not _Slot.taken:
        on_wait()
        while not slot.take():
            time.sleep(_RETRY_SECONDS)
    try:
        yield
    finally:
        slot.give_up()


@contextlib.asynccontextmanager
async def slot_given_up() -> AsyncIterator[None]:
    """Let others have the slot this task holds, if it holds one, while its own guest only waits."""
    slot = _HELD.get()
    if slot:
        slot.give_up()
    try:
        yield
    finally:
        if slot:
            await slot.wait()


class _Slot:
    """A place among the guests that run at once, taken or not."""

    #: how many this process holds
    taken = 0

    def __init__(self, count: int) -> None:
        folder = cache_folder("slots")
        self._paths = [folder / f"{number}.lock" for number in range(count)]
        self._descriptor = -1

    def take(self) -> bool:
        """Take a free slot; return whether there was one."""
        for path in self._paths:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if lock(descriptor, wait=False):
                self._descriptor = descriptor
                _Slot.taken += 1
                return True
            os.close(descriptor)
        return False

    async def wait(self) -> None:
        """Wait until a slot is free, and take it."""
        # other processes hold the locks: there is nothing to be woken by
        while not self.take():  # noqa: ASYNC110
            await asyncio.sleep(_RETRY_SECONDS)

    def give_up(self) -> None:
        """Free the slot, if it is taken."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            _Slot.taken -= 1


#: the slot of the cell that a task runs
_HELD: ContextVar[_Slot | None] = ContextVar("_HELD", default=None)

"""Patience: a limit of wall time that a busy host does not use up.

A guest that does not answer is silent only if its QEMU could run. The kernel counts how long QEMU's threads waited for
a CPU (/proc/PID/task/*/schedstat, Documentation/scheduler/sched-stats.rst), and the limit moves by as much. So a guest
that hangs on an idle host is told after the limit, and one on a host with too much to do gets its time.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

#: however busy the host is, a limit becomes at most so many times as long
_AT_MOST = 10
#: wall seconds before the limit at which it is seen whether it moves
_BEFORE = 0.05


@contextlib.asynccontextmanager
async def limited(seconds: float, starved: Callable[[], float]) -> AsyncIterator[None]:
    """Raise TimeoutError `seconds` of wall time later, not counting those that `starved` says passed without a CPU."""
    loop = asyncio.get_running_loop()
    begun, before = loop.time(), starved()
    looking: asyncio.TimerHandle
    async with asyncio.timeout_at(begun + seconds) as limit:

        def look() -> None:
            nonlocal looking
            end = begun + min(seconds + starved() - before, seconds * _AT_MOST)
            if end > (limit.when() or end) + _BEFORE:
                limit.reschedule(end)
                looking = loop.call_at(end - _BEFORE, look)

        looking = loop.call_at(begun + seconds - _BEFORE, look)
        try:
            yield
        finally:
            looking.cancel()

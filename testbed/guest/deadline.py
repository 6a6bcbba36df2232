"""Deadline: a span of guest seconds in which something asked from outside must happen.

When guest time is warped, an idle guest lives a hundred seconds while the host thinks for half of one. So the guest is
held (kept awake, which lets its time pass only as fast as it executes) from the moment a deadline begins until `go`,
and again at each step of the span until the host has taken notice of it: what the host sees, it sees at most a step
late.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from testbed.host.slots import slot_given_up
from testbed.model.errors import WarpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from testbed.guest.guest import Guest
    from testbed.guest.shell import Steps
    from testbed.machine.qmp import Event, EventWaiter

    Look = Callable[[], Awaitable[bool]]

#: guest seconds of a step in a deadline's first second, and later at least
_FIRST_STEP, _STEP = 0.25, 0.5
_SOON = 1.0
#: a late step may be this share of the time that has passed: a late latency need not be told more exactly
_GROWTH = 0.05
#: wall seconds in which QEMU sends the event of something that it has done: it frees a device in a thread of its own
_EVENT_SECONDS = 2.0
#: wall seconds after which warped time must have been quicker than real time
_SLOW_SECONDS = 3.0


class Deadline:
    """A span of guest time that has begun; made by `deadline`."""

    def __init__(self, guest: Guest, steps: Steps) -> None:
        self._guest = guest
        self._steps = steps
        self._passing: asyncio.Task[tuple[Event, float] | None] | None = None
        self._length = _FIRST_STEP
        #: guest seconds at its begin
        self.started = steps.started

    def go(self, answer: EventWaiter | None = None, *, done: Look | None = None) -> None:
        """Let the guest's time pass, until `answer` comes or the deadline is over: what is judged has been asked.

        `done` looks whether QEMU has already done what `answer` will tell. It is asked at each step, and from then on
        the guest is held: host time that QEMU takes to tell must not become guest time.
        """
        self._passing = asyncio.create_task(self._pass(answer, done))

    async def event(self) -> tuple[Event, float] | None:
        """Wait for the answer; return it with the guest's time, or None once the deadline is over."""
        if self._passing is None:
            raise RuntimeError("a deadline passes only after go()")
        if self._guest.machine.warped:
            return await self._passing
        async with slot_given_up():  # in real time an idle guest leaves its core to others
            return await self._passing

    async def close(self) -> None:
        """Let go of the guest."""
        if self._passing:
            self._passing.cancel()
            await asyncio.gather(self._passing, return_exceptions=True)
        await self._steps.cancel()

    async def _pass(self, answer: EventWaiter | None, done: Look | None) -> tuple[Event, float] | None:
        more, began = True, time.monotonic()
        while more and not (answer and answer.event):
            more = await self._step(answer)
            self._check_pace(time.monotonic() - began)
            if answer and done and not answer.event and await done():
                with contextlib.suppress(TimeoutError):
                    return await asyncio.wait_for(answer.wait(), _EVENT_SECONDS), self._steps.seconds
        return (answer.event, await self._now()) if answer and answer.event else None

    async def _now(self) -> float:
        """Return the guest's time at an event that came within a step, which ends that step at the latest."""
        clock = await self._guest.shell.clock()
        return min(clock, self._steps.seconds + self._length) if self._guest.machine.warped else clock

    def _check_pace(self, wall: float) -> None:
        """Raise WarpError if the guest is so busy that counting its instructions takes longer than its time."""
        passed = self._steps.seconds - self.started
        if self._guest.machine.warped and wall > max(_SLOW_SECONDS, passed):
            raise WarpError(f"warped time is slow here: {passed:.1f} guest seconds took {wall:.1f} s")

    async def _step(self, answer: EventWaiter | None) -> bool:
        """Let one step pass, or less if the answer comes; return whether there is another."""
        self._length = _step_length(self._steps.seconds - self.started)
        step = asyncio.create_task(self._steps.go_on(self._length))
        waits = {step, asyncio.create_task(answer.wait())} if answer else {step}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return step.result() if step.done() else True
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)


def _step_length(passed: float) -> float:
    """Return the guest seconds of the step that begins after `passed` of them."""
    return _FIRST_STEP if passed < _SOON else max(_STEP, _GROWTH * passed)


@contextlib.asynccontextmanager
async def deadline(guest: Guest, seconds: float) -> AsyncIterator[Deadline]:
    """Begin a deadline of `seconds` guest seconds, with the guest held until `go`."""
    steps = await guest.shell.start_steps(seconds)
    limit = Deadline(guest, steps)
    try:
        yield limit
    finally:
        with contextlib.suppress(Exception):  # a machine that has ended needs no letting go
            await limit.close()

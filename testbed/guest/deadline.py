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
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.host.slots import slot_given_up
from testbed.model.errors import WarpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

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


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """An answer that has come."""

    event: Event
    seconds: float  #: the guest's time when it came


@dataclass(kw_only=True)
class Awaited:
    """An answer of QEMU's that a deadline waits for.

    `done` looks whether QEMU has already done what the answer will tell. It is asked at each step, and from then on the
    guest is held: host time that QEMU takes to tell must not become guest time.
    """

    answer: EventWaiter
    done: Look
    arrival: Arrival | None = None


class Deadline:
    """A span of guest time that has begun; made by `deadline`."""

    def __init__(self, guest: Guest, steps: Steps) -> None:
        self._guest = guest
        self._steps = steps
        self._passing: asyncio.Task[None] | None = None
        self._stepping: asyncio.Task[bool] | None = None
        self._length = _FIRST_STEP
        #: guest seconds at its begin
        self.started = steps.started

    @property
    def seconds(self) -> float:
        """Return the guest seconds at the begin of the latest step."""
        return self._steps.seconds

    @property
    def held(self) -> bool:
        """Return whether the guest is between two steps, and what is seen now was so at `seconds`."""
        return self._stepping is None

    async def live(self, seconds: float) -> None:
        """Let the guest live for so long, and hold it again; before `go`."""
        await self._steps.go_on(seconds)

    def go(self, *awaited: Awaited) -> None:
        """Let the guest's time pass, until every answer has come or the deadline is over: what is judged was asked."""
        self._passing = asyncio.create_task(self._pass(awaited))

    async def passed(self) -> None:
        """Wait until every answer has come, or the deadline is over."""
        if self._passing is None:
            raise RuntimeError("a deadline passes only after go()")
        if self._guest.machine.warped:
            return await self._passing
        async with slot_given_up():  # in real time an idle guest leaves its core to others
            return await self._passing

    async def until(self, done: Look) -> None:
        """Let the guest's time pass in steps, with a look between them, until one says yes or the deadline is over."""
        more, began = True, time.monotonic()
        while more and not await done():
            more = await self._steps.go_on(_step_length(self._steps.seconds - self.started))
            self._check_pace(time.monotonic() - began)

    async def close(self) -> None:
        """Let go of the guest."""
        tasks = [task for task in (self._passing, self._stepping) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._steps.cancel()

    async def _pass(self, awaited: Sequence[Awaited]) -> None:
        more, began = True, time.monotonic()
        while more and not (awaited and all(each.arrival for each in awaited)):
            more = await self._step([each.answer for each in awaited if not each.arrival])
            self._check_pace(time.monotonic() - began)
            for each in awaited:
                if not each.arrival:
                    await self._hear(each)

    async def _hear(self, awaited: Awaited) -> None:
        """Note the answer if it has come, or will in a moment."""
        answer = awaited.answer
        if answer.event:
            awaited.arrival = Arrival(event=answer.event, seconds=await self._now())
        elif await awaited.done():
            with contextlib.suppress(TimeoutError):
                event = await asyncio.wait_for(answer.wait(), _EVENT_SECONDS)
                seconds = self.seconds if self.held else await self._now()
                awaited.arrival = Arrival(event=event, seconds=seconds)

    async def _now(self) -> float:
        """Return the guest's time at an event that came within a step, which ends that step at the latest."""
        clock = await self._guest.shell.clock()
        return min(clock, self._steps.seconds + self._length) if self._guest.machine.warped else clock

    def _check_pace(self, wall: float) -> None:
        """Raise WarpError if the guest is so busy that counting its instructions takes longer than its time."""
        passed = self._steps.seconds - self.started
        if self._guest.machine.warped and wall > max(_SLOW_SECONDS, passed):
            raise WarpError(f"warped time is slow here: {passed:.1f} guest seconds took {wall:.1f} s")

    async def _step(self, answers: Sequence[EventWaiter]) -> bool:
        """Let one step pass, or less if an answer comes; return whether there is more of the deadline."""
        if self._stepping is None:
            self._length = _step_length(self._steps.seconds - self.started)
            self._stepping = asyncio.create_task(self._steps.go_on(self._length))
        waits = [asyncio.create_task(answer.wait()) for answer in answers]
        try:
            await asyncio.wait({self._stepping, *waits}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if not self._stepping.done():
            return True
        step, self._stepping = self._stepping, None
        return step.result()


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

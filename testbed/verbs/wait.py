"""The verb `wait`: guest seconds, or an event of QEMU's."""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testbed.actions.hotplug import DEADLINE
from testbed.model.errors import BrokenError, GuestCrashedError, InputError
from testbed.model.outcome import Finding
from testbed.verbs.answer import Answer, witnessed
from testbed.verbs.verb import Argument, Verb
from testbed.verbs.words import json_or_text, misused, pairs, split_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.machine.qmp import Event
    from testbed.verbs.bench import Bench

_USAGE = "wait SECONDS | wait EVENT [KEY=VALUE...] [within SECONDS]"
#: a day: what is longer was meant otherwise
_LONGEST = 86400.0


@dataclass(frozen=True, kw_only=True)
class WaitOrder:
    """What `wait` was asked for."""

    event: str = ""  #: empty: only time is to pass
    data: Mapping[str, Any] = field(default_factory=dict)  #: what the event must say
    seconds: float = DEADLINE

    @property
    def text(self) -> str:
        """Return the event that is meant."""
        return " ".join((self.event, *(f"{key}={value}" for key, value in self.data.items())))


def parse_wait(text: str) -> WaitOrder:
    """Read `SECONDS`, or `EVENT [KEY=VALUE...] [within SECONDS]`; raise InputError if it is neither."""
    words = split_words(text)
    if len(words) == 1 and words[0] and not words[0][0].isalpha():
        return WaitOrder(seconds=_seconds(words[0]))
    seconds = DEADLINE
    if words[-2:-1] == ["within"]:
        seconds, words = _seconds(words[-1]), words[:-2]
    if not words or not words[0][:1].isalpha() or not all("=" in word.lstrip("=") for word in words[1:]):
        raise misused(text, _USAGE, example="wait DEVICE_DELETED device=dev1 within 10")
    data = {key: json_or_text(value) for key, value in pairs(words[1:]).items()}
    return WaitOrder(event=words[0].upper(), data=data, seconds=seconds)


def _seconds(word: str) -> float:
    with contextlib.suppress(ValueError):
        seconds = float(word)
        if math.isfinite(seconds) and 0 <= seconds <= _LONGEST:
            return seconds
    raise InputError(f"wait: got {word!r}, wanted seconds, {_LONGEST:.0f} at most", hint=f"usage: {_USAGE}")


async def _wait(bench: Bench, order: WaitOrder) -> Answer:
    if order.event:
        return await _wait_for(bench, order)
    guest = await bench.answering()
    if guest:
        bench.machine.journal.step("guest", f"sleep {order.seconds:g}")
        await bench.while_it_lives(guest.shell.sleep(order.seconds))
        return Answer(text=f"{order.seconds:g} s have passed in the guest")
    await bench.machine.watch.during(asyncio.sleep(order.seconds))
    return await bench.unwatched(f"{order.seconds:g} s have passed on the host")


async def _wait_for(bench: Bench, order: WaitOrder) -> Answer:
    """Wait for an event, which may have come since the latest request."""
    if order.event not in bench.schema.events:
        raise InputError(f"wait: QEMU has no event {order.event}", hint="events lists those so far; Tab completes all")
    with bench.machine.qmp.listen(order.event, **order.data) as waiter:
        for event in bench.latest_events:
            waiter.offer(event)
        coming, passing = asyncio.ensure_future(waiter.wait()), asyncio.ensure_future(_pass(bench, order.seconds))
        try:
            await bench.machine.watch.during(asyncio.wait({coming, passing}, return_when=asyncio.FIRST_COMPLETED))
        finally:
            for each in (coming, passing):
                each.cancel()
            await asyncio.gather(coming, passing, return_exceptions=True)
        return _told(order, waiter.event, evidence=bench.machine.qmp.last_reply)


async def _pass(bench: Bench, seconds: float) -> None:
    """Let guest seconds pass, and the host's where no guest can count them."""
    with contextlib.suppress(BrokenError, GuestCrashedError):
        if guest := await bench.answering():
            return await bench.while_it_lives(guest.shell.sleep(seconds))
    return await asyncio.sleep(seconds)


def _told(order: WaitOrder, event: Event | None, *, evidence: str) -> Answer:
    none = f"none within {order.seconds:g} s"
    observed = f"{event.name} {dict(event.data)}" if event else none
    finding = Finding(
        subject="QMP event",
        expected=order.text,
        observed=observed,
        evidence=event.evidence if event else evidence or "qmp.jsonl",
    )
    head = f"{order.text}: {'has come' if event else none}"
    return witnessed(head, [finding], outcome="came" if event else "none", ok=event is not None)


WAIT = Verb(
    usage=_USAGE,
    does=f"let guest seconds pass, or wait up to {DEADLINE:.0f} of them for an event since the latest request",
    parse=parse_wait,
    do=_wait,
    arguments=(Argument.EVENT,),
)

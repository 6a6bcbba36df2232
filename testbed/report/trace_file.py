"""The timeline as a trace for Perfetto or chrome://tracing: a process for each cell, a thread for each who speaks.

Source: the Trace Event Format of Chromium; `ts` and `dur` are microseconds. Every process begins at its machine's
start, so that cells line up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.campaign.record.timeline import Track, read_timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.campaign.record.timeline import Entry
    from testbed.model.outcome import Outcome

_NAMES = {Track.ACTION: "actions", Track.QMP: "QMP", Track.GUEST: "guest", Track.KERNEL: "kernel"}

#: characters of an event's name; all of it is in its arguments
_NAME = 100


def to_trace(outcomes: Sequence[Outcome]) -> str:
    """Return the trace of some cells; their rundirs are read."""
    events = [event for process, outcome in enumerate(outcomes, start=1) for event in _process(process, outcome)]
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}, separators=(",", ":")) + "\n"


def _process(process: int, outcome: Outcome) -> Iterator[dict[str, Any]]:
    yield _named("process_name", process, 0, f"{outcome.verdict}: {outcome.id}")
    yield {"ph": "M", "name": "process_sort_index", "pid": process, "tid": 0, "args": {"sort_index": process}}
    for thread, track in enumerate(Track, start=1):
        yield _named("thread_name", process, thread, _NAMES.get(track, track.value))
    for entry in read_timeline(Path(outcome.rundir)):
        # what a saved guest did before this run has no time in it; an answer is the end of its request's span
        if entry.wall is not None and not entry.answer:
            yield _event(process, entry, entry.wall)


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}


def _event(process: int, entry: Entry, wall: float) -> dict[str, Any]:
    about: dict[str, Any] = {"text": entry.text, "evidence": entry.evidence}
    if entry.guest is not None:
        about["guest seconds" if entry.measured else "guest seconds, about"] = round(entry.guest, 6)
    if entry.level is not None:
        about["level"] = entry.level
    where = {"pid": process, "tid": tuple(Track).index(entry.track) + 1, "ts": round(wall * 1e6, 1)}
    common = {"name": entry.text.partition("\n")[0][:_NAME], "cat": entry.track.value, **where, "args": about}
    if entry.seconds is None:
        return {"ph": "i", "s": "t", **common}
    return {"ph": "X", "dur": round(entry.seconds * 1e6, 1), **common}

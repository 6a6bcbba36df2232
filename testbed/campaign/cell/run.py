"""Run one cell: from its description to its outcome, with everything it leaves in its rundir."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from testbed.campaign.cell.judge import BED_ERROR, TRACEBACK, Ruling, rule
from testbed.campaign.cell.outcome_file import Course, conclude, writable
from testbed.campaign.cell.start import Fresh, Start, Warm, chosen_start
from testbed.campaign.prepared import launched
from testbed.machine.reproduce import write_reproduction
from testbed.machine.snapshot_store import SnapshotStore
from testbed.model.errors import BrokenError, SnapshotError, WarpError
from testbed.scenarios.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from testbed.campaign.prepared import PreparedCell
    from testbed.guest.guest import Guest
    from testbed.host.host import Host
    from testbed.machine.launch import Machine
    from testbed.model.outcome import Judgement, Outcome

    Progress = Callable[[str], None]
    OnVerdict = Callable[["Judged"], Awaitable[None]]
    OnReady = Callable[[Guest], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A cell with its outcome, while its machine still runs."""

    outcome: Outcome
    machine: Machine
    guest: Guest | None  #: None if it never answered
    progress: Progress


async def run_cell(
    prepared: PreparedCell,
    *,
    host: Host,
    rundir: Path,
    progress: Progress,
    on_verdict: OnVerdict | None = None,
    on_ready: OnReady | None = None,
    limit: float | None = None,
) -> Outcome:
    """Run a prepared cell and return its outcome; whatever goes wrong in it becomes its verdict.

    With `on_verdict` the machine is launched so that people can reach it, and ends only after that returns. `on_ready`
    is given the guest with the scenario's drivers loaded, before the scenario begins. A cell that takes longer than
    `limit` wall seconds is ended, and broken.
    """
    with writable(rundir):
        rundir.mkdir(parents=True, exist_ok=True)
    course = Course()
    place = _Place(host=host, rundir=rundir, progress=progress, on_verdict=on_verdict, on_ready=on_ready)
    try:
        async with asyncio.timeout(limit) as clock:
            return await _try_in_time(prepared, course, place)
    except Exception as error:
        ended = _over_limit(limit) if clock.expired() else error
        return conclude(prepared, course, _ruled(ended, course, rundir), rundir)


def _ruled(error: Exception, course: Course, rundir: Path) -> Ruling:
    """Return the ruling on an exception; where one came from that nobody expected is written into the rundir."""
    ruling = rule(error, stimulus=course.stimulus, starved=course.starved)
    if ruling.outcome == BED_ERROR:
        with contextlib.suppress(OSError):  # the disk may be full, which the ruling tells
            (rundir / TRACEBACK).write_text("".join(traceback.format_exception(error)), errors="backslashreplace")
    return ruling


def _over_limit(limit: float | None) -> BrokenError:
    return BrokenError(
        f"the cell took longer than its limit of {limit:g} wall seconds, and was ended",
        hint="is the host busy? give cells more time: --limit SECONDS",
    )


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a cell runs, and who hears of it."""

    host: Host
    rundir: Path
    progress: Progress
    on_verdict: OnVerdict | None
    on_ready: OnReady | None


async def _try_in_time(prepared: PreparedCell, course: Course, place: _Place) -> Outcome:
    """Try the cell, and once more in real time if its guest is too busy for warped time to be of use."""
    try:
        return await _start_and_try(prepared, course, place)
    except WarpError as error:
        again = Course(started=course.started, note=course.note)
        again.remark(f"{error}; rerun in real time")
        place.progress(again.note)
        real = replace(prepared, cell=prepared.cell.model_copy(update={"time": "real"}))
        return await _start_and_try(real, again, place)


async def _start_and_try(prepared: PreparedCell, course: Course, place: _Place) -> Outcome:
    """Try the cell from a saved state if there is one that can be used, else from a boot of its own."""
    # a machine that people may look into is one of its own, from its boot on
    store = SnapshotStore() if prepared.cell.start == "auto" and place.on_verdict is None else None
    try:
        async with chosen_start(prepared, store, note=course.remark) as start:
            return await _try(prepared, course, place, start)
    except SnapshotError as error:
        course.remark(f"{error}; booted fresh")
        place.progress(course.note)
        if store is not None and isinstance(start, Warm):
            store.remove(start.snapshot)
        return await _try(prepared, course, place, Fresh(prepared=prepared))


async def _try(prepared: PreparedCell, course: Course, place: _Place, start: Start) -> Outcome:
    place.progress("starting")
    course.start = start.kind
    rundir, progress, on_verdict = place.rundir, place.progress, place.on_verdict
    async with (
        launched(
            prepared,
            place.host,
            rundir,
            attachable=on_verdict is not None,
            warped=prepared.warped,
            incoming=start.kind == "warm",
            overlay=start.overlay,
        ) as machine,
        contextlib.AsyncExitStack() as stack,
    ):
        title = prepared.cell.id
        try:
            progress("booting" if start.kind == "fresh" else "resuming")
            ruling = await _ruling(prepared, course, stack, start.guest(machine), place)
            title = f"{title}: {ruling.verdict}, {ruling.reason}"
        finally:
            try:
                write_reproduction(machine, title=title)
            except OSError as error:  # no reason to lose the verdict
                course.remark(f"reproduce.sh could not be written: {error.strerror}")
        outcome = conclude(prepared, course, ruling, rundir)
        if on_verdict:
            await on_verdict(Judged(outcome=outcome, machine=machine, guest=course.guest, progress=progress))
    return outcome


async def _ruling(
    prepared: PreparedCell,
    course: Course,
    stack: contextlib.AsyncExitStack,
    starting: AbstractAsyncContextManager[Guest],
    place: _Place,
) -> Ruling:
    """Have the guest for as long as the stack is open, run the scenario and rule on what comes of it."""
    try:
        course.guest = await stack.enter_async_context(starting)
        course.kernel_cmdline = course.guest.hello.cmdline
        if place.on_ready and not prepared.scenario.by_loader:  # then nobody answers yet
            await place.on_ready(course.guest)
        return _agreed(await _judge(prepared, course, course.guest, place.progress))
    except (SnapshotError, WarpError):
        raise
    except Exception as error:
        return _ruled(error, course, place.rundir)


async def _judge(prepared: PreparedCell, course: Course, guest: Guest, progress: Progress) -> Judgement:
    trial = Trial(guest=guest, progress=progress, options=prepared.options)
    progress("proving the starting state")
    try:
        judgement = await prepared.scenario.judge(trial)
    finally:
        course.stimulus = trial.request
        course.starved = trial.starved
        course.modelled = trial.modelled
    course.guest_seconds = judgement.guest_seconds
    return judgement


def _agreed(judgement: Judgement) -> Ruling:
    return Ruling(
        verdict=judgement.verdict,
        outcome=judgement.outcome,
        reason=judgement.reason,
        hint=None,
        findings=judgement.findings,
    )

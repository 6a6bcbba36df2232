"""Run cells on this host: as many guests at once as it has cores and memory for."""

from __future__ import annotations

import asyncio
import shutil
from functools import partial
from typing import TYPE_CHECKING, Self

from testbed.campaign.cell.outcome_file import skip_cell
from testbed.campaign.cell.run import run_cell
from testbed.campaign.cell.start import start_key
from testbed.campaign.prepared import prepare_cell
from testbed.campaign.stock import HostStock
from testbed.host.host import LocalHost
from testbed.host.leftovers import stale_temp_folders
from testbed.host.memory import MemoryBudget
from testbed.host.slots import core_count, guest_slot
from testbed.machine.snapshot_store import SnapshotStore
from testbed.model.errors import BedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from testbed.campaign.cell.run import OnReady, OnVerdict
    from testbed.campaign.execution.executor import Observer, Place
    from testbed.campaign.execution.job_queue import Job, JobQueue
    from testbed.campaign.stock import Stock
    from testbed.guest.guest import Guest
    from testbed.model.outcome import Cell, Outcome

    Progress = Callable[[str], None]

#: guests started for each that may be busy, where guests wait in real time
_STARTED = 4


class LocalExecutor:
    """Runs cells on this host."""

    def __init__(
        self,
        *,
        jobs: int,
        limit: float | None = None,
        on_verdict: OnVerdict | None = None,
        on_ready: OnReady | None = None,
        stock: Stock | None = None,
    ) -> None:
        self.guests = jobs
        self._limit = limit
        self._on_verdict = on_verdict
        self._on_ready = on_ready
        self._stock = stock or HostStock()
        self._real_time = False
        self._host = LocalHost()

    async def __aenter__(self) -> Self:
        # what killed test beds left: nobody else comes by
        for folder in stale_temp_folders():
            shutil.rmtree(folder, ignore_errors=True)
        await self._host.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._host.__aexit__(kind, error, trace)

    async def start_of(self, cell: Cell, *, progress: Progress) -> str | None:
        """Prepare a cell, with an image built for it if need be."""
        prepared = await asyncio.to_thread(prepare_cell, cell, progress=progress, stock=self._stock)
        self._real_time |= not prepared.warped
        return start_key(prepared) if cell.start == "auto" else None

    def is_saved(self, start: str) -> bool:
        """Look into the store."""
        return SnapshotStore().find(start) is not None

    async def execute(self, cells: Sequence[Cell], queue: JobQueue, *, place: Place, observer: Observer) -> None:
        """Run every job; as many tasks take them as guests may have been started."""
        budget = MemoryBudget()

        async def work() -> None:
            async for job in _jobs(queue):
                tell = partial(observer.phase, job.index)
                outcome = await run_here(
                    cells[job.index],
                    stock=self._stock,
                    host=self._host,
                    budget=budget,
                    guests=self.guests,
                    rundir=place(job.index),
                    tell=tell,
                    on_verdict=self._on_verdict,
                    on_ready=partial(self._ready, partial(queue.opened, job), tell),
                    limit=self._limit,
                )
                observer.done(job.index, outcome)
                queue.finished(job)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._started_at_once(), queue.left)):
                    group.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    def _started_at_once(self) -> int:
        """Return how many cells may have been started: more than have a slot, if some wait in real time without one."""
        waiting = self.guests > 1 and self._real_time
        return self.guests * _STARTED if waiting else self.guests

    async def _ready(self, opened: Callable[[], None], tell: Progress, guest: Guest) -> None:
        """Let those follow who wait for this guest to be saved."""
        opened()
        if self._on_ready:
            tell("collecting facts")
            await self._on_ready(guest)


async def run_here(
    cell: Cell,
    *,
    stock: Stock,
    host: LocalHost,
    budget: MemoryBudget,
    guests: int,
    rundir: Path,
    tell: Progress,
    on_verdict: OnVerdict | None = None,
    on_ready: OnReady | None = None,
    limit: float | None = None,
) -> Outcome:
    """Run a cell on this host as soon as one of `guests` slots and memory for it are free; see `run_cell`."""
    try:
        prepared = await asyncio.to_thread(prepare_cell, cell, progress=tell, stock=stock)
    except BedError as error:  # it could be prepared before: something is gone since
        return skip_cell(cell, error, rundir=rundir, stock=stock)
    memory = budget.held(prepared.spec.memory_mib, on_wait=partial(tell, "waiting for memory"))
    slot = guest_slot(count=max(guests, core_count()), on_wait=partial(tell, "waiting for a guest slot"))
    async with memory, slot:
        return await run_cell(
            prepared,
            host=host,
            rundir=rundir,
            progress=tell,
            on_verdict=on_verdict,
            on_ready=on_ready,
            limit=limit,
        )


async def _jobs(queue: JobQueue) -> AsyncIterator[Job]:
    """Yield jobs as long as there are some."""
    while queue.left:
        if job := queue.take():
            yield job
        else:
            await queue.change()

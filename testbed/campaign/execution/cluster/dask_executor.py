"""Run cells on the workers of a Dask cluster.

Where a cell runs is decided here, not by Dask: it goes to a worker that has what it needs, and cells that share a boot
to the same one. Dask carries the calls. A worker that is gone gives its cells back; each is tried on three workers at
most, so that one which kills them does not take the whole cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import logging
import secrets
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from distributed import Client

from testbed.campaign.cell.outcome_file import skip_cell
from testbed.campaign.execution.cluster import worker as remote
from testbed.campaign.execution.cluster.message import RemoteCell, Task, topic
from testbed.campaign.execution.cluster.parcel import Parcel, chunks, make_parcel, missing_blobs, receive_piece
from testbed.campaign.execution.own_source import own_source
from testbed.campaign.prepared import with_level2_qemu
from testbed.campaign.record.rundir import OUTCOME
from testbed.campaign.stock import HostStock
from testbed.host.archive import unpack_all
from testbed.image.key import BZIMAGE, INITRAMFS, VMLINUX
from testbed.model.catalog import TEMPLATES
from testbed.model.cmdline import CommandLine
from testbed.model.errors import BrokenError, InputError, LackingError, UnsupportedError
from testbed.model.outcome import Cell, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from testbed.campaign.execution.cluster.message import Delivery, Offer
    from testbed.campaign.execution.executor import Observer, Place
    from testbed.campaign.execution.job_queue import Job, JobQueue
    from testbed.campaign.stock import StockedMachine
    from testbed.image.store import Image
    from testbed.model.spec import MachineSpec

#: wall seconds until a scheduler that does not answer is given up
_CONNECT_SECONDS = 5.0
#: between two looks at who is there
_LOOK_SECONDS = 1.0
#: without a worker for what is left
_ALONE_SECONDS = 60.0
_END_SECONDS = 10.0
_ATTEMPTS = 3


@dataclass(kw_only=True)
class _Worker:
    """One worker, and what it runs."""

    address: str
    offer: Offer
    threads: int
    running: dict[int, tuple[Job, asyncio.Task[None]]] = field(default_factory=dict)


@dataclass(kw_only=True)
class _Store:
    """What was received in a folder that several workers may share."""

    blobs: set[str] = field(default_factory=set)
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)


class DaskExecutor:
    """Runs cells on a cluster."""

    def __init__(self, address: str, *, limit: float | None, kvm: bool, tell: Callable[[str], None]) -> None:
        self._address = address
        self._limit = limit
        self._kvm = kvm
        self._tell = tell
        self._stock = HostStock()
        self._token = secrets.token_hex(8)
        self._workers: dict[str, _Worker] = {}
        self._refused: dict[str, str] = {}
        self._stores: dict[str, _Store] = {}
        self._parcels: dict[str, tuple[Parcel, dict[str, Path]]] = {}
        self._attempts: Counter[int] = Counter()
        self._client: Client

    @property
    def guests(self) -> int:
        """Return how many guests run at once."""
        return sum(worker.threads for worker in self._workers.values())

    async def __aenter__(self) -> Self:
        # its own words on lost connections would stand between ours
        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        try:
            self._client = await asyncio.wait_for(self._connected(), _CONNECT_SECONDS + 1)
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(
                f"Dask scheduler {self._address}: cannot be reached: {_first_line(error)}",
                hint="start one: dask scheduler; then give its address: --workers dask:tcp://HOST:8786",
            ) from None
        try:
            await self._greet()
        except BaseException:
            await self._client.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._client.close(), _END_SECONDS)

    async def start_of(self, cell: Cell, *, progress: Callable[[str], None]) -> str | None:
        """Check a cell, and that some worker can run it."""
        wanted = await asyncio.to_thread(self._remote, cell, progress)
        if not any(_fits(worker.offer, cell, wanted.qemu) for worker in self._workers.values()):
            lacking = f"QEMU {wanted.qemu}" + (" with KVM" if cell.accel == "kvm" else "")
            raise LackingError(
                f"no worker has {lacking}; there are: {'; '.join(str(each.offer) for each in self._workers.values())}",
                lacking=wanted.qemu,
                remedy="start a worker on a host that has it",
            )
        scenario = self._stock.scenario(cell.scenario)
        if scenario.fresh or cell.start == "fresh" or scenario.is_loaded(scenario.values(cell.options)):
            return None
        machine = self._stock.machine(cell).rendered.text
        parts = [machine, str(cell.setup), wanted.image.id, *scenario.modules, wanted.qemu, cell.time]
        flags = (str(scenario.warp_safe), str(scenario.drivers))
        return hashlib.sha256("\0".join([*parts, *flags]).encode()).hexdigest()

    def is_saved(self, start: str) -> bool:
        """Workers are not asked: each knows what it has saved when the cell is there."""
        return False

    async def execute(self, cells: Sequence[Cell], queue: JobQueue, *, place: Place, observer: Observer) -> None:
        """Run every job; raise BrokenError if all workers, or the scheduler, stay away."""
        self._client.subscribe_topic(topic(self._token), partial(self._hear, queue, observer))
        run = partial(self._run, cells, queue, place, observer)
        alone = 0.0
        try:
            while queue.left or any(worker.running for worker in self._workers.values()):
                self._hand_out(cells, queue, run)
                await self._something(queue)
                await self._look(queue, observer)
                alone = 0.0 if any(worker.running for worker in self._workers.values()) else alone + _LOOK_SECONDS
                if alone > _ALONE_SECONDS:
                    raise BrokenError(
                        f"Dask scheduler {self._address}: no worker for the remaining {queue.left} cells for "
                        f"{alone:.0f} s",
                        hint="start one that has what they need, then continue with --resume",
                    )
        finally:
            await self._end()

    async def _connected(self) -> Client:
        return await Client(self._address, asynchronous=True, timeout=_CONNECT_SECONDS, set_as_default=False)

    async def _greet(self) -> None:
        """Ask every worker what it has; raise InputError if none can be used."""
        for address, threads in (await self._client.nthreads()).items():
            await self._meet(address, threads)
        if self._workers:
            return
        if self._refused:
            reasons = "; ".join(f"{address}: {why}" for address, why in self._refused.items())
            raise InputError(f"Dask scheduler {self._address}: no worker can be used: {reasons}")
        raise InputError(
            f"Dask scheduler {self._address}: has no workers", hint=f"start one: dask worker {self._address}"
        )

    async def _meet(self, address: str, threads: int) -> None:
        try:
            offers = await self._client.run(remote.probe, kvm=self._kvm, workers=[address])
            offer = offers[address]
        except Exception as error:  # whatever is wrong there, or it is gone again
            self._refused[address] = f"cannot be queried ({_first_line(error)}); is the test bed installed?"
        else:
            if offer.source == own_source():
                self._workers[address] = _Worker(address=address, offer=offer, threads=threads)
                self._tell(f"worker {address}: {threads} at once; {offer}")
                return
            self._refused[address] = "runs another version of the test bed"
        self._tell(f"worker {address}: {self._refused[address]}")

    def _hand_out(self, cells: Sequence[Cell], queue: JobQueue, run: Callable[[_Worker, Job], Any]) -> None:
        for worker in self._workers.values():

            def fits(job: Job, worker: _Worker = worker) -> bool:
                cell = cells[job.index]
                return _fits(worker.offer, cell, self._qemu(cell, self._stock.machine(cell).rendered.spec))

            while len(worker.running) < worker.threads and (job := queue.take(worker.address, fits=fits)):
                worker.running[job.index] = (job, asyncio.create_task(run(worker, job)))

    async def _run(
        self, cells: Sequence[Cell], queue: JobQueue, place: Place, observer: Observer, worker: _Worker, job: Job
    ) -> None:
        """Run a cell on a worker; what fails on the way there is tried again elsewhere."""
        cell = cells[job.index]
        self._attempts[job.index] += 1
        try:
            outcome = await self._outcome(cell, job, worker, place(job.index), observer)
        except Exception as error:
            if self._attempts[job.index] < _ATTEMPTS:
                queue.give_back(job, worker.address)
                worker.running.pop(job.index, None)
                return
            lost = BrokenError(f"worker {worker.address}: {_first_line(error)}; tried {_ATTEMPTS} times")
            outcome = skip_cell(cell, lost, rundir=place(job.index), stock=self._stock)
        if outcome.kernel_cmdline:
            queue.opened(job, worker.address)
        observer.done(job.index, outcome)
        queue.finished(job, worker.address)
        # last: what is still there when its task has ended was ended by an error
        worker.running.pop(job.index, None)

    async def _outcome(self, cell: Cell, job: Job, worker: _Worker, rundir: Path, observer: Observer) -> Outcome:
        wanted = await asyncio.to_thread(self._remote, cell, _quiet)
        await self._deliver(worker, wanted, partial(observer.phase, job.index))
        observer.phase(job.index, f"on {worker.address}")
        task = Task(token=self._token, index=job.index, limit=self._limit, cell=wanted)
        future = self._client.submit(
            remote.run_task,
            task,
            key=f"testbed-{self._token}-{job.index}-{self._attempts[job.index]}",
            workers=[worker.address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        try:
            delivery = await future
        finally:
            # its result would stay in the worker's memory
            future.release()
        return await asyncio.to_thread(_received, delivery, rundir, worker.address)

    def _remote(self, cell: Cell, progress: Callable[[str], None]) -> RemoteCell:
        """Return a cell with all that a worker needs; raise InputError if something of it is not there."""
        scenario = self._stock.scenario(cell.scenario)
        options = scenario.values(cell.options)
        machine = self._stock.machine(cell)
        CommandLine(cell.cmdline).check()
        for disk in machine.rendered.spec.disks:
            if disk.path is not None:
                raise UnsupportedError(
                    f"disk {disk.id}: {disk.path} is a file on this host, and is not sent to workers"
                )
        image = self._stock.image(with_level2_qemu(cell, scenario, options), progress)
        template, _ = self._parcel(f"template {machine.template.path}", lambda: _template_files(machine))
        images, _ = self._parcel(f"image {image.id}", lambda: _image_files(image))
        own = None
        if not scenario.is_shipped:
            file = scenario.file
            own, _ = self._parcel(f"scenario {file}", lambda: {file.name: file})
        return RemoteCell(
            cell=cell,
            qemu=self._qemu(cell, machine.rendered.spec),
            template=template,
            template_file=machine.template.path.name,
            scenario=own,
            scenario_name=scenario.name,
            image=image,
            image_files=images,
        )

    def _qemu(self, cell: Cell, spec: MachineSpec) -> str:
        """Return the version of QEMU that a cell wants: this host's of that name, else a worker's."""
        try:
            return self._stock.qemu(cell, spec).version
        except InputError:
            for worker in self._workers.values():
                for version, path in worker.offer.qemus.items():
                    if cell.qemu in ("", path):
                        return version
            raise

    def _parcel(self, name: str, files: Callable[[], dict[str, Path]]) -> tuple[Parcel, dict[str, Path]]:
        if name not in self._parcels:
            self._parcels[name] = make_parcel(files())
        return self._parcels[name]

    async def _deliver(self, worker: _Worker, wanted: RemoteCell, tell: Callable[[str], None]) -> None:
        """Send a worker the contents that it has not, each once, however many cells need them."""
        contents = {digest for parcel in wanted.parcels for _, digest in parcel.files}
        store = self._stores.setdefault(worker.offer.store, _Store())
        async with store.sending:
            absent = sorted(contents - store.blobs)
            if not absent:
                return
            at = {"workers": [worker.address]}
            missing = (await self._client.run(missing_blobs, absent, **at))[worker.address]
            places = {digest: path for _, paths in self._parcels.values() for digest, path in paths.items()}
            for digest in missing:
                tell(f"sending {places[digest].name} to {worker.address}")
                await self._send(digest, places[digest], at)
            store.blobs |= contents

    async def _send(self, digest: str, path: Path, at: dict[str, list[str]]) -> None:
        pieces = await asyncio.to_thread(lambda: list(chunks(path)))
        for number, piece in enumerate(pieces, 1):
            await self._client.run(receive_piece, self._token, digest, piece, last=number == len(pieces), **at)

    def _hear(self, queue: JobQueue, observer: Observer, event: tuple[float, dict[str, Any]]) -> None:
        """Receive a cell's progress from a worker."""
        _, news = event
        for worker in self._workers.values():
            if news["index"] in worker.running:
                if news["what"] == "ready":
                    queue.opened(worker.running[news["index"]][0], worker.address)
                else:
                    observer.phase(news["index"], news["text"])

    async def _something(self, queue: JobQueue) -> None:
        """Wait until something has changed, or it is time to look who is there."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(queue.change(), _LOOK_SECONDS)
        for worker in self._workers.values():
            for _, task in worker.running.values():
                if task.done():
                    task.result()  # an error of ours

    async def _look(self, queue: JobQueue, observer: Observer) -> None:
        """See who is gone and who has come."""
        try:
            there = await asyncio.wait_for(self._client.nthreads(), _CONNECT_SECONDS)
        except (OSError, TimeoutError) as error:
            raise BrokenError(
                f"Dask scheduler {self._address}: was lost: {_first_line(error)}",
                hint="start it again, then continue with --resume",
            ) from None
        for address in [each for each in self._workers if each not in there]:
            await self._lose(self._workers.pop(address), queue, observer)
        for address in there:
            if address not in self._workers and address not in self._refused:
                await self._meet(address, there[address])

    async def _lose(self, worker: _Worker, queue: JobQueue, observer: Observer) -> None:
        running = list(worker.running.values())
        self._tell(f"worker {worker.address}: is gone; {len(running)} of its cells go to others")
        worker.running.clear()
        await _cancelled([task for _, task in running])
        queue.lost(worker.address, [job for job, _ in running])
        for job, _ in running:
            observer.phase(job.index, f"lost with worker {worker.address}, waiting for another")

    async def _end(self) -> None:
        """End what still runs, here and on the workers: after an interrupt, or an error."""
        tasks = [task for worker in self._workers.values() for _, task in worker.running.values()]
        if not tasks:
            return
        await _cancelled(tasks)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.run(remote.end_cells, self._token, on_error="ignore"), _END_SECONDS)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _fits(offer: Offer, cell: Cell, qemu: str) -> bool:
    """Return whether a worker has what a cell needs."""
    return qemu in offer.qemus and (cell.accel != "kvm" or offer.kvm)


def _template_files(machine: StockedMachine) -> dict[str, Path]:
    """Return a template with all that it may import: the files beside it, and the shipped parts."""
    path = machine.template.path
    return {each.name: each for folder in (TEMPLATES.shipped, path.parent) for each in folder.glob("*.j2")}


def _image_files(image: Image) -> dict[str, Path]:
    files = {BZIMAGE: image.bzimage, VMLINUX: image.vmlinux, INITRAMFS: image.initramfs}
    return {name: path for name, path in files.items() if path}


def _received(delivery: Delivery, rundir: Path, address: str) -> Outcome:
    """Unpack a rundir and return its outcome, which says where it is now and who ran it."""
    rundir.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(delivery.rundir), mode="r:gz") as tar:
        unpack_all(tar, rundir)
    outcome = Outcome.model_validate_json(delivery.outcome)
    note = "; ".join(part for part in (outcome.note, f"run by {address}") if part)
    outcome = outcome.model_copy(update={"rundir": str(rundir), "note": note})
    (rundir / OUTCOME).write_text(outcome.model_dump_json(indent=1) + "\n")
    return outcome


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _quiet(_: str) -> None:
    """Take no progress: what is built was built when the cell was planned."""

"""The worker's side: what it has, what it receives, and the cells it runs.

All guests of a worker are started by one thread, which lives as long as the worker: QEMU dies when the thread that
started it ends (the parent-death signal), and so with a killed worker no guest is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import platform
import tarfile
import threading
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from distributed import get_worker

from testbed.campaign.execution.cluster.message import Delivery, Offer, RemoteCell, Task, topic
from testbed.campaign.execution.cluster.parcel import unpacked
from testbed.campaign.execution.local import run_here
from testbed.campaign.execution.own_source import own_source
from testbed.campaign.stock import StockedMachine
from testbed.host.accel import Accel, choose_accel
from testbed.host.cache import cache_path
from testbed.host.claim import scratch_folder
from testbed.host.host import LocalHost
from testbed.host.kvm import prove_kvm
from testbed.host.memory import MemoryBudget, available_mib
from testbed.host.qemu import find_qemu
from testbed.host.qemu_catalog import known_qemus
from testbed.host.slots import core_count
from testbed.image.key import BZIMAGE, INITRAMFS, VMLINUX
from testbed.machine.launch import check_spec
from testbed.machine.template import load_template
from testbed.model.errors import InputError
from testbed.scenarios.scenario import Scenario, find_scenario

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Callable
    from pathlib import Path

    from testbed.guest.guest import Guest
    from testbed.host.qemu import Qemu
    from testbed.image.store import Image
    from testbed.machine.system_disk import SystemDisk
    from testbed.model.setup import Setup
    from testbed.model.spec import MachineSpec

_DISKS = ".raw"


async def probe(*, kvm: bool) -> Offer:
    """Return what this worker has; whether KVM works is tried only if `kvm` says that somebody needs it."""
    return await asyncio.to_thread(_probe, kvm=kvm)


def _probe(*, kvm: bool) -> Offer:
    qemus: dict[str, str] = {}
    for name in known_qemus():
        with contextlib.suppress(InputError):
            found = find_qemu(name)
            qemus.setdefault(found.version, str(found.path))
    default = next(iter(qemus.values()), "")
    return Offer(
        source=own_source(),
        store=f"{platform.node()}:{cache_path('received')}",
        cores=core_count(),
        memory_mib=available_mib(),
        qemus=qemus,
        kvm=kvm and bool(default) and prove_kvm(find_qemu(default)).works,
    )


def run_task(task: Task) -> Delivery:
    """Run a cell and return its outcome and rundir; a Dask task, which waits in a thread of Dask's."""
    return _bed().run(task, get_worker().log_event)


def end_cells(token: str) -> None:
    """End the cells of a campaign that was interrupted."""
    _bed().end(token)


@cache
def _bed() -> _Bed:
    return _Bed()


class _Bed:
    """The thread that starts guests."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._running: dict[str, set[concurrent.futures.Future[Delivery]]] = {}
        self._budget = MemoryBudget()
        threading.Thread(target=self._loop.run_forever, name="testbed", daemon=True).start()

    def run(self, task: Task, log_event: Callable[[str, object], None]) -> Delivery:
        """Run a cell in that thread, and wait for it."""
        future = asyncio.run_coroutine_threadsafe(self._deliver(task, log_event), self._loop)
        running = self._running.setdefault(task.token, set())
        running.add(future)
        try:
            return future.result()
        finally:
            running.discard(future)

    def end(self, token: str) -> None:
        """End the cells of a campaign."""
        for future in list(self._running.get(token, ())):
            future.cancel()

    async def _deliver(self, task: Task, log_event: Callable[[str, object], None]) -> Delivery:
        def tell(what: str, text: str = "") -> None:
            log_event(topic(task.token), {"index": task.index, "what": what, "text": text})

        async def ready(_: Guest) -> None:
            tell("ready")

        with scratch_folder("cell") as folder:
            rundir = folder / "cell"
            async with LocalHost() as host:
                outcome = await run_here(
                    task.cell.cell,
                    stock=ReceivedStock(task.cell),
                    host=host,
                    budget=self._budget,
                    guests=core_count(),
                    rundir=rundir,
                    tell=partial(tell, "phase"),
                    on_ready=ready,
                    limit=task.limit,
                )
            return Delivery(outcome=outcome.model_dump_json(), rundir=await asyncio.to_thread(_packed, rundir))


class ReceivedStock:
    """The parts of one cell as they were received; QEMU is this worker's."""

    def __init__(self, received: RemoteCell) -> None:
        self._received = received

    def scenario(self, name: str) -> Scenario:
        """Return the scenario, from the received file if it is not one of the test bed's."""
        parcel = self._received.scenario
        if parcel is None:
            return find_scenario(name)
        [(file, _)] = parcel.files
        return find_scenario(f"{unpacked(parcel) / file}:{self._received.scenario_name}")

    def machine(self, setup: Setup) -> StockedMachine:
        """Return the machine of the received template."""
        path = unpacked(self._received.template) / self._received.template_file
        template = replace(load_template(str(path)), name=setup.machine)
        return StockedMachine(template=template, rendered=template.render(setup.parameters))

    def qemu(self, setup: Setup, spec: MachineSpec) -> Qemu:
        """Return this worker's QEMU of the wanted version."""
        for name in known_qemus():
            with contextlib.suppress(InputError):
                found = find_qemu(name)
                if found.version == self._received.qemu:
                    check_spec(spec, found)
                    return found
        raise InputError(f"QEMU {self._received.qemu}: is missing, or lacks what machine {setup.machine} needs")

    def accel(self, setup: Setup, qemu: Qemu) -> Accel:
        """Return the accelerator asked for, or the best that works here."""
        return choose_accel(setup.accel, qemu)

    def image(self, setup: Setup, progress: Callable[[str], None]) -> Image:
        """Return the received image."""
        folder = unpacked(self._received.image_files)
        names = {name for name, _ in self._received.image_files.files}
        return replace(
            self._received.image,
            folder=folder,
            bzimage=folder / BZIMAGE if BZIMAGE in names else None,
            vmlinux=folder / VMLINUX if VMLINUX in names else None,
            initramfs=folder / INITRAMFS,
        )

    def system(self, setup: Setup, progress: Callable[[str], None]) -> SystemDisk:
        """Raise InputError: disks do not travel."""
        raise InputError(f"image {setup.image}: a system's disk is not sent to workers", hint="leave out --workers")


def _packed(rundir: Path) -> bytes:
    """Return a rundir as a compressed tar; the guest's disks stay behind."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w:gz", compresslevel=6) as tar:
        for path in sorted(rundir.rglob("*")):
            if path.is_file() and path.suffix != _DISKS:
                tar.add(path, arcname=str(path.relative_to(rundir)), recursive=False)
    return memory.getvalue()

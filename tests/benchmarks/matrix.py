"""What `make bench` measures of matrices: 5 scenarios x 2 machines x 16 command lines, here and on two Dask workers.

The image is built before; nothing else is: guests are saved in an empty store each time. Both ways have as many guests
at once as there are cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.image.store import ensure_image
from tests.benchmarks.measures import Ratio, new_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_SCENARIOS = ("disk-unplug", "disk-plug", "disk-plug-after-rescan", "disk-unplug-after-rescan", "disk-unplug-unseen")
_MACHINES = ("q35[hotplug=native]", "i440fx")
_CMDLINES = (
    "",
    "pcie_aspm=off",
    "pci=nomsi",
    "pci=noaer",
    "pci=noats",
    "pci=nommconf",
    "pcie_aspm=force",
    "pcie_ports=compat",
    "pcie_ports=native pcie_aspm=off",
    "pcie_pme=nomsi",
    "noapic",
    "nomodeset",
    "mitigations=off",
    "audit=0",
    "transparent_hugepage=never",
    "quiet",
)
_CELLS = len(_SCENARIOS) * len(_MACHINES) * len(_CMDLINES)
_PYTHON = sys.executable


@dataclass(frozen=True, kw_only=True)
class _Figure:
    """One run of the matrix."""

    seconds: float
    boots: int

    def __str__(self) -> str:
        minutes = self.seconds / 60
        return f"{self.boots} boots, {self.boots / minutes:.0f} boots and {_CELLS / minutes:.0f} cells a minute"


async def measure_matrix(rounds: int) -> AsyncIterator[Ratio]:
    """Measure the matrix on this host and on two workers, in turn."""
    await asyncio.to_thread(ensure_image, "debian", progress=lambda _: None)
    here, there = [], []
    for _ in range(rounds):
        here.append(await _run())
        async with _cluster() as address:
            there.append(await _run("--workers", f"dask:{address}"))
    yield Ratio(
        name=f"matrix, {_CELLS} cells",
        slow=f"two Dask workers ({there[-1]})",
        quick=f"this host ({here[-1]})",
        slow_seconds=[each.seconds for each in there],
        quick_seconds=[each.seconds for each in here],
    )


async def _run(*options: str) -> _Figure:
    """Run the matrix as a user does."""
    folder = new_folder()
    words = [*_SCENARIOS, *_named("--machine", _MACHINES), *_named("--cmdline", _CMDLINES)]
    arguments = [*words, "--accel", "tcg", "--json", "result.json", *options]
    began = time.perf_counter()
    process = await _start(folder, "testbed", "matrix", *arguments)
    status = await process.wait()
    seconds = time.perf_counter() - began
    cells = json.loads((folder / "result.json").read_text())["cells"]
    # some are broken, and rightly: a rescan shows no disk in a slot without power
    if status not in (0, 1, 128) or len(cells) != _CELLS:
        raise RuntimeError(f"bench: matrix ended with {status}, {len(cells)} cells; see {folder}/log")
    return _Figure(seconds=seconds, boots=sum(cell["start"] == "fresh" for cell in cells))


@contextlib.asynccontextmanager
async def _cluster() -> AsyncIterator[str]:
    """Yield the address of a scheduler with two workers, the cores shared out between them."""
    folder = new_folder()
    file = folder / "scheduler.json"
    async with contextlib.AsyncExitStack() as stack:
        places = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        await _service(stack, folder, "scheduler", *places, "--scheduler-file", str(file))
        # another process writes it: there is nothing to be woken by
        while not (file.is_file() and file.read_text()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        address = str(json.loads(file.read_text())["address"])
        threads = str(max(1, (os.cpu_count() or 1) // 2))
        for name in ("one", "two"):
            await _service(stack, folder, "worker", address, "--nthreads", threads, "--no-dashboard", "--name", name)
        await asyncio.sleep(5)
        yield address


async def _service(stack: contextlib.AsyncExitStack, folder: Path, *arguments: str) -> None:
    process = await _start(folder, "dask", *arguments)
    stack.push_async_callback(process.wait)
    stack.callback(process.terminate)


async def _start(folder: Path, module: str, *arguments: str) -> asyncio.subprocess.Process:
    with (folder / "log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            _PYTHON,
            "-m",
            module,
            *arguments,
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "TESTBED_SNAPSHOTS": str(folder / "snapshots")},
        )


def _named(option: str, values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in (option, value)]

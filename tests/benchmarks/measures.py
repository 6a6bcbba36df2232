"""What `make bench` measures: pairs of ways to one verdict, taken in turn."""

from __future__ import annotations

import asyncio
import itertools
import os
import shlex
import shutil
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from testbed.campaign.case import load_case
from testbed.campaign.cell.run import run_cell
from testbed.campaign.prepared import PreparedCell, launched, prepare_cell
from testbed.campaign.run import places, run_cells
from testbed.guest.guest import boot
from testbed.host.host import LocalHost
from testbed.image.store import find_image
from testbed.model.outcome import Cell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

_numbers = itertools.count()
_PIPE = asyncio.subprocess.PIPE


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Two ways measured in turn, in wall seconds."""

    name: str
    slow: str
    quick: str
    slow_seconds: list[float]
    quick_seconds: list[float]
    peak_mib: list[float] = field(default_factory=list)  #: memory of the quick way's QEMU, where it was read
    ours: Literal["slow", "quick"] = "quick"  #: which of the two is the test bed's

    @property
    def ratio(self) -> float:
        """Return the median of how much quicker the second is."""
        return statistics.median(self.ratios)

    @property
    def ratios(self) -> list[float]:
        """Return how much quicker each pair's second is."""
        return [slow / quick for slow, quick in zip(self.slow_seconds, self.quick_seconds, strict=True)]

    def __str__(self) -> str:
        peak = f"; QEMU {max(self.peak_mib):.0f} MiB at most" if self.peak_mib else ""
        return (
            f"{self.name}: {_spread(self.ratios)} times; {self.slow} {_spread(self.slow_seconds)} s, "
            f"{self.quick} {_spread(self.quick_seconds)} s{peak}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {**self.__dict__, "ratio": self.ratio}


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def new_folder() -> Path:
    """Return an empty folder of this run's."""
    folder = Path(os.environ["TESTBED_BENCH_FOLDER"]) / str(next(_numbers))
    folder.mkdir()
    return folder


def _ready(**cell: Any) -> PreparedCell:
    return prepare_cell(Cell(**{"scenario": "disk-unplug", "machine": "q35", **cell}), progress=lambda _: None)


def _plain(**cell: Any) -> PreparedCell:
    """Return a cell as one would run it without the bed: bzImage, every CPU feature, its own boot, real time."""
    parameters = {**cell.pop("parameters", {}), "cpu": "max"}
    ready = _ready(**cell, time="real", start="fresh", parameters=parameters)
    return replace(ready, built=replace(ready.image, vmlinux=None))


async def _in_turn(
    name: str,
    rounds: int,
    slow: tuple[str, Callable[[], Awaitable[float]]],
    quick: tuple[str, Callable[[], Awaitable[float]]],
) -> Ratio:
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        seconds[0].append(await slow[1]())
        seconds[1].append(await quick[1]())
    return Ratio(name=name, slow=slow[0], quick=quick[0], slow_seconds=seconds[0], quick_seconds=seconds[1])


async def _to_shell(ready: PreparedCell, host: LocalHost, peaks: list[float]) -> float:
    """Return the seconds from nothing to an answering shell."""
    began = time.perf_counter()
    async with launched(ready, host, new_folder(), warped=ready.warped) as machine, boot(machine) as guest:
        await guest.shell.clock()
        took = time.perf_counter() - began
        peaks.append(_peak(machine.process.pid))
        return took


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


async def boots(rounds: int) -> AsyncIterator[Ratio]:
    """Measure (a): bzImage and `-cpu max` against the default boot, to the shell."""
    images = [name for name in ("debian", "debian-backports") if find_image(name)]
    async with LocalHost() as host:
        for image, machine, pace in itertools.product(images, ("q35", "i440fx"), ("real", "warped")):
            ready = _ready(image=image, machine=machine, time=pace)
            plain = _plain(image=image, machine=machine)
            peaks: list[float] = []
            ratio = await _in_turn(
                f"boot {ready.image.kernel} {machine}",
                rounds,
                ("bzImage, -cpu max", lambda plain=plain: _to_shell(plain, host, [])),  # type: ignore[misc]
                (f"default, {pace} time", lambda ready=ready, peaks=peaks: _to_shell(ready, host, peaks)),  # type: ignore[misc]
            )
            yield replace(ratio, peak_mib=peaks)


async def _verdict(ready: PreparedCell, host: LocalHost) -> float:
    began = time.perf_counter()
    outcome = await run_cell(ready, host=host, rundir=new_folder(), progress=lambda _: None)
    if outcome.verdict != ready.cell.expected:
        raise RuntimeError(f"bench: {outcome.id}: {outcome.verdict}: {outcome.reason}")
    return time.perf_counter() - began


def _own_store() -> None:
    """Keep saved guests apart from the user's."""
    os.environ["TESTBED_SNAPSHOTS"] = str(new_folder())


async def verdicts(rounds: int) -> AsyncIterator[Ratio]:
    """Measure (b): a plain against a warm verdict of native unplug, obeyed and ignored."""
    _own_store()
    async with LocalHost() as host:
        for cmdline, expected in (("", "good"), ("pcie_aspm=off", "bad")):
            cell = {"parameters": {"hotplug": "native"}, "cmdline": cmdline, "expected": expected}
            plain, warm = _plain(**cell), _ready(**cell)
            await _verdict(warm, host)  # saves the guest
            yield await _in_turn(
                f"verdict {expected}",
                rounds,
                ("bzImage, -cpu max, real time", lambda plain=plain: _verdict(plain, host)),  # type: ignore[misc]
                ("warm, warped", lambda warm=warm: _verdict(warm, host)),  # type: ignore[misc]
            )


async def times(rounds: int) -> AsyncIterator[Ratio]:
    """Measure (c): real against warped time, both warm."""
    _own_store()
    async with LocalHost() as host:
        cell = {"parameters": {"hotplug": "native"}, "expected": "good"}
        real, warped = _ready(**cell, time="real"), _ready(**cell)
        for ready in (real, warped):
            await _verdict(ready, host)
        yield await _in_turn(
            "native unplug",
            rounds,
            ("real time, warm", lambda: _verdict(real, host)),
            ("warped, warm", lambda: _verdict(warped, host)),
        )


class _Silent:
    def preparing(self, message: str) -> None:
        """Hear nothing."""

    def phase(self, index: int, phase: str) -> None:
        """Hear nothing."""

    def done(self, index: int, outcome: Any) -> None:
        """Hear nothing."""


async def cases(rounds: int) -> AsyncIterator[Ratio]:
    """Measure (d): the first case of `make testbed`, plain against default, without and with saved guests.

    All cases take most of an hour plainly.
    """
    cells = list(load_case("pcie-aspm-off").cells)
    plain = [cell.model_copy(update={"start": "fresh", "time": "real"}) for cell in cells]

    async def run(chosen: list[Cell], jobs: int) -> float:
        began = time.perf_counter()
        await run_cells(chosen, place=places(new_folder(), chosen), jobs=jobs, observer=_Silent())
        return time.perf_counter() - began

    _own_store()
    slow = await run(plain, 1)  # minutes: measured once
    jobs = os.cpu_count() or 1
    without = await run(cells, jobs)
    with_saved = [await run(cells, jobs) for _ in range(rounds)]
    for quick, seconds in (("default, nothing saved", [without]), ("default, guests saved", with_saved)):
        yield Ratio(
            name=f"case pcie-aspm-off, {len(cells)} cells",
            slow="fresh, one at a time, real time",
            quick=quick,
            slow_seconds=[slow] * len(seconds),
            quick_seconds=seconds,
        )


async def virtme(rounds: int) -> AsyncIterator[Ratio]:
    """Measure (e): virtme-ng's way to `uname -r` of the same kernel beside ours, where `vng` is on PATH.

    It takes the kernel's modules from /lib/modules of the host.
    """
    program, ready = shutil.which("vng"), _ready(time="real")
    release = ready.image.kernel
    if program is None or ready.image.bzimage is None or not Path("/lib/modules", release).is_dir():
        return
    kernel = shlex.quote(str(ready.image.bzimage))
    line = f"{program} --verbose --disable-kvm --disable-microvm --run {kernel} -- uname -r"

    async def theirs() -> float:
        began = time.perf_counter()
        # it wants a terminal
        words = ("script", "-qec", line, "/dev/null")
        process = await asyncio.create_subprocess_exec(*words, stdin=asyncio.subprocess.DEVNULL, stdout=_PIPE)
        said, _ = await process.communicate()
        if release not in said.decode("utf-8", "replace"):
            raise RuntimeError(f"bench: virtme-ng did not say {release}")
        return time.perf_counter() - began

    async def ours(host: LocalHost) -> float:
        began = time.perf_counter()
        async with launched(ready, host, new_folder()) as machine, boot(machine) as guest:
            if await guest.shell.succeed("uname -r") != release:
                raise RuntimeError("bench: another kernel answered")
        return time.perf_counter() - began

    async with LocalHost() as host:
        yield await _in_turn("uname -r", rounds, ("virtme-ng", theirs), ("test bed, fresh", lambda: ours(host)))


async def bisects(rounds: int) -> AsyncIterator[Ratio]:
    """Measure (f): bisects of real lines against other searches."""
    from tests.benchmarks.bisect import measure_bisects

    async for ratio in measure_bisects(rounds):
        yield ratio


async def matrices(rounds: int) -> AsyncIterator[Ratio]:
    """Measure (g): a matrix of 160 cells here, and on two Dask workers."""
    from tests.benchmarks.matrix import measure_matrix

    async for ratio in measure_matrix(rounds):
        yield ratio


async def commands(rounds: int) -> AsyncIterator[Ratio]:
    """Measure (h): commands that boot nothing against a Python that does nothing."""
    from tests.benchmarks.commands import measure_commands

    for ratio in measure_commands(rounds):
        yield ratio


MEASURES: dict[str, Callable[[int], AsyncIterator[Ratio]]] = {
    "boot": boots,
    "verdict": verdicts,
    "time": times,
    "cases": cases,
    "virtme": virtme,
    "bisect": bisects,
    "matrix": matrices,
    "commands": commands,
}


def draw(ratios: list[Ratio], path: Path) -> None:
    """Draw the ratios as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1 + 0.5 * len(ratios)), layout="constrained")
    axes = figure.subplots()
    labels = [f"{ratio.name}\n{ratio.quick}" for ratio in ratios][::-1]
    values = [ratio.ratio for ratio in ratios][::-1]
    axes.bar_label(axes.barh(labels, values), fmt="%.1f")
    axes.set_xlabel("times quicker than plain")
    figure.savefig(path, format="svg")

"""Boot to shell: the unpacked kernel through PVH against the same bzImage and initramfs, interleaved in one run.

    python -m tests.benchmarks.boot [ROUNDS]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from testbed.campaign.trial_run import Prepared, prepare
from testbed.guest.guest import boot
from testbed.host.host import LocalHost
from testbed.machine.launch import launch
from testbed.model.outcome import Cell


async def _seconds_to_shell(ready: Prepared, host: LocalHost) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        parts = {"host": host, "qemu": ready.qemu, "accel": ready.accel}
        async with (
            launch(ready.spec, ready.boot, rundir=Path(folder), **parts) as machine,  # type: ignore[arg-type]
            boot(machine) as guest,
        ):
            await guest.shell.clock()
            return time.perf_counter() - started


async def _measure(rounds: int) -> None:
    fast = prepare(Cell(scenario="disk-present", machine="q35"), progress=print)
    plain = replace(fast, image=replace(fast.image, vmlinux=None))
    times: dict[str, list[float]] = {"pvh": [], "bzimage": []}
    async with LocalHost() as host:
        for _ in range(rounds):
            times["pvh"].append(await _seconds_to_shell(fast, host))
            times["bzimage"].append(await _seconds_to_shell(plain, host))
    for name, seconds in times.items():
        print(f"{name:8} {statistics.median(seconds):.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})")
    ratios = [slow / quick for slow, quick in zip(times["bzimage"], times["pvh"], strict=True)]
    print(f"ratio    {statistics.median(ratios):.2f} ×  ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    asyncio.run(_measure(int(sys.argv[1]) if len(sys.argv) > 1 else 7))

"""Measure (h): what a command costs at the prompt, beside a Python that does nothing; CPU seconds, in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.benchmarks.measures import Ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

#: what is measured after `python -m testbed`; none boots a guest
COMMANDS = ("version", "--help", "run --help", "list", "render q35")
NOTHING = ("-c", "pass")


def measure_commands(rounds: int) -> Iterator[Ratio]:
    """Yield for each command how many times the CPU time of `python -c pass` it takes, QEMUs it asks included."""
    for command in COMMANDS:
        words = ("-m", "testbed", *command.split())
        _spent(words)  # what is remembered of QEMU and image, it remembers now
        pairs = [(_spent(words), _spent(NOTHING)) for _ in range(rounds)]
        whole, nothing = (list(seconds) for seconds in zip(*pairs, strict=True))
        yield Ratio(
            name=f"testbed {command}",
            slow="the command (CPU)",
            quick="python -c pass (CPU)",
            slow_seconds=whole,
            quick_seconds=nothing,
            ours="slow",
        )


def _spent(words: tuple[str, ...]) -> float:
    """Return the CPU seconds of a Python and of what it starts."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"bench: {' '.join(words)}: exit status {process.returncode}")
    return usage.ru_utime + usage.ru_stime

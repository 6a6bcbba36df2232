"""Run all cases in rotation on a busy machine: `python -m tests.faults.soak MINUTES [CASE...]`, or `make soak`.

Every core is kept busy by a process that only counts. A cell is a flake if its verdicts differ from one another, or
from what is documented; every rundir is kept in testbed-runs. Exits with 1 if there was one.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from testbed.model.catalog import CASES

_KEPT = Path("testbed-runs")


def main(minutes: float, names: list[str]) -> int:
    """Run cases until the time is over, each at least once; print the table and return the exit status."""
    verdicts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    wrong: list[str] = []
    hogs = [multiprocessing.Process(target=_count, daemon=True) for _ in range(os.cpu_count() or 1)]
    for hog in hogs:
        hog.start()
    end = time.monotonic() + minutes * 60
    try:
        for number, name in enumerate(itertools.cycle(names)):
            if time.monotonic() > end and number >= len(names):
                break
            wrong += _run(name, verdicts)
    finally:
        for hog in hogs:
            hog.terminate()
    return _tell(verdicts, wrong)


def _run(name: str, verdicts: defaultdict[str, Counter[str]]) -> list[str]:
    """Run a case, count its verdicts, and return the cells that contradict what is documented."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        path = Path(folder, "result.json")
        done = subprocess.run(
            [sys.executable, "-m", "testbed", "run", name, "--json", str(path), "--rundir", str(_KEPT)],
            capture_output=True,
            text=True,
            check=False,
        )
        if not path.exists():
            verdicts[f"{name} (whole)"][f"exit {done.returncode}"] += 1
            return [f"{name}: exit {done.returncode}: {done.stderr[-300:]}"]
        cells = json.loads(path.read_text())["cells"]
    wrong = []
    for cell in cells:
        verdicts[f"{name}: {cell['id']}"][cell["verdict"]] += 1
        # a cell that cannot run here says so each time
        if cell["verdict"] not in (cell["expected"], "skip"):
            wrong.append(
                f"{cell['id']}: {cell['verdict']}, expected {cell['expected']}: {cell['reason']} {cell['rundir']}"
            )
    print(f"{name}: {len(cells)} cells, {len(wrong)} wrong", *wrong, sep="\n  ", flush=True)
    return wrong


def _count() -> None:
    """Keep a core busy."""
    number = 0
    while True:
        number += 1


def _tell(verdicts: defaultdict[str, Counter[str]], wrong: list[str]) -> int:
    runs = sum(each.total() for each in verdicts.values())
    for cell, counts in sorted(verdicts.items()):
        print(f"{'  ' if len(counts) == 1 else '! '}{cell}: {', '.join(f'{n} {word}' for word, n in counts.items())}")
    torn = sum(len(counts) > 1 for counts in verdicts.values())
    least = min((each.total() for each in verdicts.values()), default=0)
    print(
        f"{runs} cell runs of {len(verdicts)} cells, each at least {least} times: {torn} cells torn, {len(wrong)} wrong"
    )
    return 1 if torn or wrong else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:] or CASES.names()))

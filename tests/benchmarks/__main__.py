"""`make bench`: ratios measured in one run, what is compared taken in turn; saved guests in a store of its own.

python -m tests.benchmarks [--rounds N] [--json FILE] [--svg FILE] [--only boot,verdict,time,cases] [--against FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.kept import read_kept, regressions
from tests.benchmarks.measures import MEASURES, Ratio, draw


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each pair is measured")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--against", type=Path, help="fail if a ratio is a fifth worse than in that --json")
    parser.add_argument("--svg", type=Path, help="draw the ratios there (needs matplotlib)")
    parser.add_argument("--only", default=",".join(MEASURES), help="which measures: " + ", ".join(MEASURES))
    return parser.parse_args()


async def _measure(names: list[str], rounds: int) -> list[Ratio]:
    ratios: list[Ratio] = []
    for name in names:
        async for ratio in MEASURES[name](rounds):
            sys.stdout.write(f"{ratio}\n")
            sys.stdout.flush()
            ratios.append(ratio)
    return ratios


def main() -> None:
    """Measure, print, and write what was asked for."""
    arguments = _arguments()
    names = arguments.only.split(",")
    if unknown := set(names) - set(MEASURES):
        sys.exit(f"bench: there is no measure {', '.join(sorted(unknown))}; there are: {', '.join(MEASURES)}")
    sys.stdout.write(f"{os.cpu_count()} cores, {arguments.rounds} rounds, medians (lowest to highest)\n")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        os.environ["TESTBED_BENCH_FOLDER"] = folder
        ratios = asyncio.run(_measure(names, arguments.rounds))
    if arguments.json:
        arguments.json.write_text(json.dumps([ratio.to_json() for ratio in ratios], indent=1) + "\n")
    if arguments.svg:
        draw(ratios, arguments.svg)
    if arguments.against and (worse := list(regressions(ratios, read_kept(arguments.against)))):
        sys.exit("\n".join(["bench: worse than what was kept:", *worse]))


main()

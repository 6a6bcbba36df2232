"""How big the HTML report is and how soon it opens, at 160 and 5,000 cells: `python -m tests.benchmarks.reports`.

Medians of three; the browser's start does not count.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.report.html_page import html_page

from ..chromium import chromium, find_chromium
from ..paper_rundirs import write_rundir

if TYPE_CHECKING:
    from ..chromium import Page

#: scenarios, machines, command lines
_SIZES = ((5, 2, 16), (5, 10, 100))
_ROUNDS = 3
_FIRST = "document.querySelector('#map td button').click()"


def _seconds(page: Page, address: str) -> tuple[float, float]:
    """Return how long the page takes to be drawn, and then its first cell to be opened."""
    started = time.monotonic()
    page.open(address)
    drawn = time.monotonic()
    page.evaluate(_FIRST)
    page.wait("document.querySelector('.pane')")
    return drawn - started, time.monotonic() - drawn


def _measure(folder: Path, scenarios: int, machines: int, cmdlines: int) -> str:
    outcomes = [
        write_rundir(folder / f"{s}-{m}-{c}", scenario=f"scenario-{s}", machine=f"machine-{m}", cmdline=f"option={c}")
        for s in range(scenarios)
        for m in range(machines)
        for c in range(cmdlines)
    ]
    started = time.monotonic()
    text = html_page(outcomes)
    made = time.monotonic() - started
    path = folder / "report.html"
    path.write_text(text)
    with chromium(folder / "profile") as page:
        opened, cell = zip(*(_seconds(page, path.as_uri()) for _ in range(_ROUNDS)), strict=True)
    return (
        f"{len(outcomes)} cells: {path.stat().st_size / 1e6:.1f} MB, made in {made:.1f} s, "
        f"opens in {statistics.median(opened):.2f} s, its first cell in {statistics.median(cell):.2f} s"
    )


def main() -> None:
    """Measure and print."""
    if find_chromium() is None:
        sys.exit("reports: needs a browser: python3 testbed/host/packages.py install tests")
    for size in _SIZES:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            sys.stdout.write(_measure(Path(folder), *size) + "\n")


if __name__ == "__main__":
    main()

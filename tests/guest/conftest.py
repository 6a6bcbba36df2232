"""What the plugin's fixtures do not offer: a checked cell, its machine before it boots, and the order of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from testbed.campaign.trial_run import Prepared, prepare
from testbed.host.host import LocalHost
from testbed.machine.launch import launch
from testbed.model.outcome import Cell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from testbed.machine.launch import Machine


def prepared(**cell: Any) -> Prepared:
    """Return a checked cell, on q35 and the stock image unless said otherwise."""
    given = {"scenario": "disk-present", "machine": "q35", **cell}
    return prepare(Cell(**given), progress=lambda _: None)


def launched(ready: Prepared, host: LocalHost, rundir: Path) -> AbstractAsyncContextManager[Machine]:
    """Start the machine of a checked cell."""
    return launch(ready.spec, ready.boot, host=host, qemu=ready.qemu, accel=ready.accel, rundir=rundir)


@pytest.fixture
async def host() -> AsyncIterator[LocalHost]:
    async with LocalHost() as local:
        yield local


#: files whose tests boot for longer than every change can wait for; `make test-all` runs them
EXTENDED = {
    *("test_aer", "test_bisect", "test_bisect_elements", "test_bundle", "test_compare", "test_devices"),
    *("test_hotplug_scenarios", "test_level2", "test_matrix", "test_matrix_dask", "test_mmio", "test_sriov"),
    "test_withholding",
}
#: of the cases, those of the first are run with every change
_OTHER_CASES = "test_a_cell_gives_its_documented_verdict"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, so that two workers end at the same time, and mark the extended ones."""
    items.sort(key=_seconds, reverse=True)
    for item in items:
        if item.path.stem in EXTENDED or item.name.startswith(f"{_OTHER_CASES}["):
            item.add_marker("extended")


def _seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("seconds")
    return float(marker.args[0]) if marker else 5.0

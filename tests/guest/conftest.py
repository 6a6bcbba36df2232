"""What the plugin's fixtures do not offer: a checked cell, its machine before it boots, and the order of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from testbed.campaign.trial_run import Prepared, prepare
from testbed.host.host import LocalHost
from testbed.host.qemu import find_qemu
from testbed.host.qemu_catalog import known_qemus
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


def qemu_with(*drivers: str) -> str:
    """Return the name of the first QEMU of this host that has these device models; skip the test if none has."""
    for name in known_qemus():
        if set(drivers) <= set(find_qemu(name).drivers):
            return name
    pytest.skip(f"no QEMU here has {', '.join(drivers)}: testbed qemu fetch")


@pytest.fixture
async def host() -> AsyncIterator[LocalHost]:
    async with LocalHost() as local:
        yield local


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, so that two workers end at the same time."""
    items.sort(key=_seconds, reverse=True)


def _seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("seconds")
    return float(marker.args[0]) if marker else 5.0

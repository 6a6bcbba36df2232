"""What the plugin's fixtures do not offer: a checked cell, its machine before it boots, and the order of tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from testbed.campaign.prepared import PreparedCell, prepare_cell
from testbed.host.host import LocalHost
from testbed.host.qemu import find_qemu
from testbed.host.qemu_catalog import known_qemus
from testbed.model.outcome import Cell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def prepared(scenario: str = "disk-present", **fields: Any) -> PreparedCell:
    """Return a checked cell, on q35 and the stock image unless said otherwise."""
    return prepare_cell(Cell(scenario=scenario, **{"machine": "q35", **fields}), progress=lambda _: None)


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
    """Put the longest tests first, so that two workers end at the same time, and those that share a guest together."""
    longest: dict[str, float] = {}
    for item in items:
        longest[_group(item)] = max(longest.get(_group(item), 0.0), _seconds(item))
    items.sort(key=lambda item: (-longest[_group(item)], _group(item)) if _group(item) else (-_seconds(item), ""))


def _group(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    return str(marker.args[0]) if marker else ""


def _seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("seconds")
    return float(marker.args[0]) if marker else 5.0

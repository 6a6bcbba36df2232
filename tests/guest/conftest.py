"""Fixtures that boot guests: the stock image, a host, and a factory of booted machines."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from testbed.campaign.trial_run import Prepared, prepare, run_cell
from testbed.guest.guest import Guest, boot
from testbed.host.host import LocalHost
from testbed.machine.launch import launch
from testbed.model.outcome import Cell, Outcome

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


class BootGuest(Protocol):
    """Boots a machine given by the fields of a cell."""

    def __call__(self, **cell: Any) -> AbstractAsyncContextManager[Guest]: ...


@pytest.fixture
async def host() -> AsyncIterator[LocalHost]:
    async with LocalHost() as local:
        yield local


@pytest.fixture
def boot_guest(host: LocalHost, tmp_path: Path) -> BootGuest:
    @contextlib.asynccontextmanager
    async def booted(**cell: Any) -> AsyncIterator[Guest]:
        ready = prepared(**cell)
        async with launched(ready, host, tmp_path) as machine, boot(machine) as guest:
            yield guest

    return booted


class TryCell(Protocol):
    """Runs a cell given by its fields."""

    async def __call__(self, **cell: Any) -> Outcome: ...


@pytest.fixture
def try_cell(host: LocalHost, tmp_path: Path) -> TryCell:
    numbers = itertools.count(1)

    async def tried(**cell: Any) -> Outcome:
        rundir = tmp_path / f"cell{next(numbers)}"
        return await run_cell(prepared(**cell), host=host, rundir=rundir, progress=lambda _: None)

    return tried


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, so that two workers end at the same time."""
    items.sort(key=_seconds, reverse=True)


def _seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("seconds")
    return float(marker.args[0]) if marker else 5.0

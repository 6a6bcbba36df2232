from __future__ import annotations

import asyncio
import fcntl
from typing import TYPE_CHECKING

import pytest

from testbed.host.slots import guest_slot, slot_for_helper, slot_given_up

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path))


class _Cell:
    """A cell that notes in `said` how it gets on, and lasts until `go`."""

    def __init__(self, name: str, said: list[str], go: asyncio.Event) -> None:
        self.waits, self.has_slot = asyncio.Event(), asyncio.Event()
        self._name, self._said, self._go = name, said, go

    def _note(self, word: str, event: asyncio.Event) -> None:
        self._said.append(f"{self._name} {word}")
        event.set()

    async def run(self) -> None:
        async with guest_slot(count=1, on_wait=lambda: self._note("waits", self.waits)):
            self._note("runs", self.has_slot)
            await self._go.wait()
        self._said.append(f"{self._name} is done")


async def test_a_second_guest_waits_for_the_only_slot() -> None:
    said: list[str] = []
    go = asyncio.Event()
    one, two = _Cell("one", said, go), _Cell("two", said, go)
    async with asyncio.TaskGroup() as group:
        group.create_task(one.run())
        await one.has_slot.wait()
        group.create_task(two.run())
        await two.waits.wait()
        go.set()
    assert said == ["one runs", "two waits", "one is done", "two runs", "two is done"]


async def test_a_guest_that_only_waits_lends_its_slot_and_gets_it_back() -> None:
    said: list[str] = []
    go = asyncio.Event()
    other, third = _Cell("other", said, go), _Cell("third", said, go)
    async with asyncio.TaskGroup() as group, guest_slot(count=1):
        async with slot_given_up():
            group.create_task(other.run())
            await other.has_slot.wait()
            asyncio.get_running_loop().call_later(0.05, go.set)
        assert said == ["other runs", "other is done"]
        group.create_task(third.run())
        await third.waits.wait()
    assert said[2:] == ["third waits", "third runs", "third is done"]


async def test_without_a_slot_there_is_nothing_to_lend() -> None:
    async with slot_given_up():
        pass


async def test_a_helper_waits_for_others_and_never_for_its_own_process() -> None:
    said: list[str] = []
    async with guest_slot(count=1):
        with slot_for_helper(count=1, on_wait=lambda: said.append("waits")):
            said.append("runs beside its own guest")
    with slot_for_helper(count=1):
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            go = asyncio.Event()
            cell = _Cell("cell", said, go)
            running = group.create_task(cell.run())
            await cell.waits.wait()
            running.cancel()
    assert said == ["runs beside its own guest", "cell waits"]


def test_a_helper_waits_while_another_process_has_the_slot(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "slots").mkdir()
    with (tmp_path / "slots" / "0.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def let_go() -> None:
            said.append("waits")
            fcntl.flock(other, fcntl.LOCK_UN)

        with slot_for_helper(count=1, on_wait=let_go):
            said.append("runs")
    assert said == ["waits", "runs"]

"""A machine that was saved runs on only when QEMU has finished saving it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from testbed.machine.snapshot import save

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from testbed.machine.launch import Machine


class BusyQemu:
    """A QEMU that says "completed" and is not through with it: a real one is so for a moment, now and then."""

    def __init__(self) -> None:
        self.statuses = ["finish-migrate", "finish-migrate", "postmigrate"]
        self.asked: dict[str, Mapping[str, Any]] = {}

    async def execute_unlogged(self, command: str, _arguments: Mapping[str, Any]) -> Any:
        if command == "query-status":
            return {"status": self.statuses.pop(0)}
        return []

    async def execute_unrepeated(self, command: str, arguments: Mapping[str, Any]) -> None:
        self.asked[command] = arguments

    def send_descriptor(self, _descriptor: int) -> None:
        pass

    def listen_all(self, _name: str) -> AbstractContextManager[asyncio.Queue[Mapping[str, Any]]]:
        return events()


@contextmanager
def events() -> Iterator[asyncio.Queue[Mapping[str, Any]]]:
    queue: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
    queue.put_nowait({"status": "completed"})
    yield queue


async def test_a_save_ends_when_the_machine_may_run(tmp_path: Path) -> None:
    qemu = BusyQemu()
    await save(cast("Machine", SimpleNamespace(qmp=qemu)), tmp_path / "state")
    assert list(qemu.asked)[-1] == "migrate"
    assert qemu.asked["migrate-set-parameters"]["max-bandwidth"] > 1 << 30, "QEMU's own limit is 128 MiB a second"
    assert qemu.statuses == []

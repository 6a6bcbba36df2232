"""The end of a process on this host."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from testbed.host import host
from testbed.host.host import LocalHost
from testbed.model.errors import BrokenError

if TYPE_CHECKING:
    from pathlib import Path


async def test_one_that_is_killed_and_stays_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with LocalHost() as local:
        process = await local.start(["sleep", "60"], log=tmp_path / "log")
        with monkeypatch.context() as patch:
            patch.setattr(host, "END_SECONDS", 0)  # no process stays for long that can be had in a test
            with pytest.raises(BrokenError, match=f"process {process.pid} was killed"):
                await process.end()
        assert await process.wait() == -signal.SIGKILL

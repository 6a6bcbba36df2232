"""What a command says before its guests run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.cli.frame import CommandFrame

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("jobs", "printed"), [(1, False), (3, True)])
def test_how_many_guests_run_at_once_is_said_where_it_may_be_more_than_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], jobs: int, printed: bool
) -> None:
    monkeypatch.setattr("testbed.cli.frame.core_count", lambda: 4)
    monkeypatch.setattr("testbed.cli.frame.available_mib", lambda: 1234)
    CommandFrame(tmp_path).announce([], jobs=jobs)
    text = capsys.readouterr().out
    assert ("guests at once: 3" in text) is printed
    assert ("4 cores, 1234 MiB" in text) is printed

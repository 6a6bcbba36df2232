"""A run that is ended at any moment leaves nothing but its rundir; `make orphans` does many."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from testbed.image.store import find_image
from tests.faults import orphans
from tests.faults.orphans import ENDS, WRAPPED, end_one, next_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.seconds(30)
@pytest.mark.parametrize("by", [pytest.param(by, marks=[] if by == "SIGKILL" else pytest.mark.extended) for by in ENDS])
def test_a_run_ended_at_a_random_moment_leaves_its_rundir_alone(tmp_path: Path, by: str) -> None:
    if find_image("debian") is None:
        pytest.skip("image debian is not built: testbed image build debian")
    ended = end_one(tmp_path, command="run", by=by, after=random.uniform(0, 6))
    assert ended.problems == (), ended
    if by == "SIGKILL":
        assert next_run(tmp_path) == []


def test_a_command_that_was_done_before_its_moment_is_told_from_one_that_was_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"done": ["testbed", "version"], "waiting": ["http.server", "0"]}
    monkeypatch.setattr(orphans, "COMMANDS", orphans.COMMANDS | words)
    done = end_one(tmp_path, command="done", by="SIGINT", after=50)
    assert done.alone
    assert done.after < 50
    waiting = end_one(tmp_path, command="waiting", by="SIGTERM", after=0.5)
    assert not waiting.alone
    assert waiting.after >= 0.5


def test_what_gets_no_cpu_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = itertools.chain([0.0], itertools.repeat(2.0))
    monkeypatch.setattr(orphans, "_starved", lambda _: next(waits))
    answers = iter([*[False] * 20, True])
    assert orphans._until(lambda: next(answers), seconds=0.1, folder=tmp_path)
    monkeypatch.setattr(orphans, "_starved", lambda _: 0.0)
    assert not orphans._until(lambda: False, seconds=0.1, folder=tmp_path)


@pytest.mark.extended
@pytest.mark.seconds(15)
def test_a_run_that_is_killed_leaves_no_qemu_behind_a_script(tmp_path: Path) -> None:
    if find_image("debian") is None:
        pytest.skip("image debian is not built: testbed image build debian")
    ended = end_one(tmp_path, command=WRAPPED, by="SIGKILL", after=random.uniform(2, 6))
    assert ended.problems == (), ended

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from testbed.host.host import dies_with_parent
from testbed.host.packages import find_program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not find_program("setpriv"), reason="this host has no setpriv")


def test_a_child_runs_under_its_own_pid_and_its_status_comes_back() -> None:
    with subprocess.Popen(
        dies_with_parent(["sh", "-c", "echo $$; exit 7"]), stdout=subprocess.PIPE, text=True
    ) as child:
        said, _ = child.communicate()
    assert (int(said), child.returncode) == (child.pid, 7)


def test_a_child_whose_parent_is_gone_already_starts_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    orphan = shlex.join(dies_with_parent(["touch", str(mark)]))
    # the shell between is its parent now, as init is when the bed died in between
    subprocess.run(["sh", "-c", f"{orphan}; true"], check=True)
    assert not mark.exists()

"""The Makefile's set-up on a host whose Python is too old."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent.parent
#: a Python that says it is another
OLD = """#!{python}
import sys
sys.version_info = (3, {minor}, 12)
exec(sys.argv[2])
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    if not shutil.which("make"):
        pytest.skip("this host has no make")
    for name in ("Makefile", "pyproject.toml", "testbed/host/packages.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, tmp_path / name)
    return tmp_path


def set_up(checkout: Path, minor: int) -> subprocess.CompletedProcess[str]:
    python = checkout / f"python3.{minor}"
    python.write_text(OLD.format(python=sys.executable, minor=minor))
    python.chmod(0o755)
    return subprocess.run(
        ["make", "setup", f"PYTHON={python}"], cwd=checkout, capture_output=True, text=True, check=False
    )


def test_a_python_too_old_is_told_and_nothing_is_made(checkout: Path) -> None:
    done = set_up(checkout, 10)
    assert done.returncode == 2
    assert "Python 3.11 or later is needed" in done.stderr
    assert "make setup PYTHON=python3.11" in done.stderr
    assert not (checkout / ".venv").exists()


def test_the_oldest_python_that_will_do_is_not_refused(checkout: Path) -> None:
    done = set_up(checkout, 11)
    assert "is needed" not in done.stderr


@pytest.mark.xdist_group("kept")
def test_a_group_of_tests_stays_on_one_worker(request: pytest.FixtureRequest) -> None:
    """A shared guest would else be booted by each worker."""
    if not request.config.getoption("loadgroup", default=False):
        pytest.skip("only with make test's --dist loadgroup")
    assert request.node.nodeid.endswith("@kept")

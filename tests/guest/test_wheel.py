"""The built wheel in an environment of its own, outside the checkout: a case, steps, the pytest plugin, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: builds and installs with pip, which downloads what the wheel depends on
pytestmark = [pytest.mark.extended, pytest.mark.network]

_STEPS = """\
question: Does the guest let go of a disk?
steps:
  - stimulus: unplug dev1
  - expect: deleted
"""
_TEST = """\
import pytest


@pytest.mark.parametrize("cmdline", ["", pytest.param("pcie_aspm=off", marks=pytest.mark.xfail)])
async def test_a_disk_is_released(testbed_run, cmdline):
    await testbed_run("disk-unplug", machine="q35", parameters={"hotplug": "native"}, cmdline=cmdline)
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment that has the wheel and pytest."""
    folder = tmp_path_factory.mktemp("wheel")
    run(ROOT, sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), ".")
    (wheel,) = folder.glob("*.whl")
    run(folder, sys.executable, "-m", "venv", "venv")
    run(folder, "venv/bin/pip", "install", "-q", str(wheel), "pytest", "pytest-asyncio")
    return folder / "venv" / "bin"


def run(folder: Path, *command: str, code: int = 0) -> str:
    """Run a command where nothing of the checkout can be found; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.mark.seconds(60)
def test_a_case(programs: Path, tmp_path: Path) -> None:
    said = run(tmp_path, str(programs / "testbed"), "run", "port-without-hotplug")
    assert "case port-without-hotplug: reproduced" in said


def test_steps_of_ones_own(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(_STEPS)
    assert "as-expected" in run(tmp_path, str(programs / "testbed"), "run", "./mine.yaml", "--json", "-")
    run(
        tmp_path,
        str(programs / "testbed"),
        "run",
        "./mine.yaml",
        "-p",
        "hotplug=native",
        "--cmdline",
        "pci=nomsi",
        code=1,
    )


def test_the_pytest_plugin(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(_TEST)
    said = run(tmp_path, str(programs / "pytest"), "-q", "-o", "asyncio_mode=auto", "test_mine.py")
    assert "1 passed, 1 xfailed" in said


def test_completion_for_a_shell(programs: Path, tmp_path: Path) -> None:
    assert "_TESTBED_COMPLETE" in run(tmp_path, str(programs / "testbed"), "--show-completion", "bash")

"""The example of docs/steps.md, asked by each command that takes a scenario."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "steps.md").read_text()
NATIVE = "q35[hotplug=native]"
CASE = """\
title: a disk added to a stopped guest is not found
description: The example of docs/steps.md as a case.
references: [docs/steps.md]
cells:
  - machine: q35
    parameters: {hotplug: native}
    cmdline: pcie_aspm=off
    scenario: ./late.yaml
    expect: bad
    outcome: timed-out
    because: [{subject: "late.yaml:9 wait path", observed: "."}]
    role: failing
  - machine: q35
    cmdline: pcie_aspm=off
    scenario: ./late.yaml
    expect: good
    outcome: as-expected
    role: control
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (match,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "late.yaml").write_text(match)
    return tmp_path


def asked(folder: Path, *arguments: str, code: int) -> Any:
    """Run a command there and return what it wrote with --json."""
    command = [sys.executable, "-m", "testbed", *arguments, "--json", "out.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads((folder / "out.json").read_text())


@pytest.mark.extended
@pytest.mark.seconds(15)
def test_it_is_compared(folder: Path) -> None:
    written = asked(folder, "compare", "late.yaml", "-m", NATIVE, "-m", "q35", "--cmdline", "pcie_aspm=off", code=1)
    verdicts = [(cell["verdict"], cell["outcome"]) for cell in written["cells"]]
    assert verdicts == [("bad", "timed-out"), ("good", "as-expected")]
    assert written["cells"][0]["reason"].endswith("suspect: pcie_aspm=off")


@pytest.mark.extended
@pytest.mark.seconds(15)
def test_it_makes_a_case(folder: Path) -> None:
    (folder / "late-case.yaml").write_text(CASE)
    written = asked(folder, "run", "./late-case.yaml", code=0)
    assert [cell["verdict"] for cell in written["cells"]] == ["bad", "good"]


@pytest.mark.extended
@pytest.mark.seconds(15)
def test_it_stands_in_a_matrix(folder: Path) -> None:
    written = asked(folder, "matrix", "late.yaml", "-m", NATIVE, "--cmdline", "", "--cmdline", "pcie_aspm=off", code=1)
    assert sorted(cell["verdict"] for cell in written["cells"]) == ["bad", "good"]


@pytest.mark.extended
@pytest.mark.seconds(30)
def test_it_is_bisected(folder: Path) -> None:
    written = asked(folder, "bisect", "late.yaml", "-m", NATIVE, "--cmdline", "quiet pcie_aspm=off nokaslr", code=0)
    assert written["culprits"] == ["pcie_aspm=off"]

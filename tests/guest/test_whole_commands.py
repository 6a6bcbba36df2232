"""`compare`, `bisect` and `matrix` with the user space of a customer's disk: each cell runs it, and says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.image.store import remove_image
from tests.disks import mbr_disk
from tests.tiny_system import tiny_root

if TYPE_CHECKING:
    from collections.abc import Iterator

NATIVE = "q35[hotplug=native]"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a disk with a system of one script."""
    root = tiny_root(tmp_path_factory.mktemp("root"))
    disk = mbr_disk(root.with_name("tiny.raw"), [root])
    yield disk
    remove_image(f"whole@disk:{disk}")


def run(folder: Path, command: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run a command with guests of this test's own; return its exit code and its JSON."""
    words = [sys.executable, "-m", "testbed", command, *arguments, "--json", str(folder / "result.json")]
    own = {**os.environ, "COLUMNS": "250", "TESTBED_SNAPSHOTS": str(folder / "snapshots")}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=own)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    report = json.loads((folder / "result.json").read_text())
    assert isinstance(report, dict)
    return done.returncode, report


def asked_of(disk: Path) -> tuple[str, ...]:
    return ("disk-unplug", "--image", f"disk:{disk}", "--accel", "tcg")


@pytest.mark.extended
@pytest.mark.seconds(40)
def test_two_machines_are_compared_under_it(tiny: Path, tmp_path: Path) -> None:
    machines = ("-m", NATIVE, "-m", "q35", "--cmdline", "pcie_aspm=off")
    code, found = run(tmp_path, "compare", *asked_of(tiny), *machines, "--whole-wait", "1")
    assert code == 1
    assert [(cell["verdict"], cell["whole"]) for cell in found["cells"]] == [("bad", "1"), ("good", "1")]
    assert all(cell["user_space"].startswith("Tiny 1: /bin/busybox after ") for cell in found["cells"])
    changed = {(each["kind"], each["subject"]): list(each["values"].values()) for each in found["differences"]}
    assert changed["control", "hot-plug"] == ["nobody", "ACPI (acpiphp)"]


@pytest.mark.extended
@pytest.mark.seconds(90)
@pytest.mark.parametrize("goal", ["culprit", "remedy"])
def test_the_culprit_and_the_remedy_are_found_under_it(tiny: Path, tmp_path: Path, goal: str) -> None:
    search = {
        "culprit": ("--cmdline", "quiet pcie_aspm=off nomodeset"),
        "remedy": ("--goal", "remedy", "--cmdline", "pcie_aspm=off", "--candidates", "nomodeset pcie_ports=native"),
    }[goal]
    code, found = run(tmp_path, "bisect", *asked_of(tiny), "-p", "hotplug=native", *search, "--whole-wait", "1")
    assert code == 0
    assert found["proven"]
    assert [each["elements"] for each in found["sets"]] == [
        ["pcie_aspm=off" if goal == "culprit" else "pcie_ports=native"]
    ]
    (only,) = found["sets"]
    assert only["command"].endswith(" --whole-wait 1"), "it is repeated under it"
    assert "Linux (pciehp)" in str(only["changes"])
    tried = [json.loads(Path(trial["rundir"], "outcome.json").read_text()) for trial in found["trials"]]
    assert {each["user_space"].partition(" after ")[0] for each in tried} == {"Tiny 1: /bin/busybox"}


@pytest.mark.extended
@pytest.mark.seconds(60)
def test_the_test_bed_s_own_user_space_and_the_disk_s_are_values_of_an_axis(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "matrix.yaml").write_text(
        f"axes: {{scenario: disk-unplug, machine: '{NATIVE}', cmdline: ['', pcie_aspm=off], image: 'disk:{tiny}', "
        "whole: ['', '1'], accel: tcg}\nexpect:\n  - {cmdline: pcie_aspm=off, verdict: bad, outcome: ignored}\n"
    )
    code, found = run(tmp_path, "matrix", "matrix.yaml")
    assert code == 0
    seen = [
        (cell["cmdline"], cell["whole"], cell["verdict"], cell["user_space"].partition(" after ")[0])
        for cell in found["cells"]
    ]
    assert sorted(seen) == [
        ("", "", "good", ""),
        ("", "1", "good", "Tiny 1: /bin/busybox"),
        ("pcie_aspm=off", "", "bad", ""),
        ("pcie_aspm=off", "1", "bad", "Tiny 1: /bin/busybox"),
    ]
    code, every = run(tmp_path, "matrix", *asked_of(tiny), "-m", "q35", "--whole-wait", "1")
    assert code == 0
    assert [row["axes"]["whole"] for row in every["rows"]] == ["1"]
    assert every["cells"][0]["user_space"].startswith("Tiny 1: ")

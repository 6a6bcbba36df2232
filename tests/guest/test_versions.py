"""Other versions: an atlas as a user calls it, and QEMUs of other releases, which run on libraries of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from testbed.host.apt_sources import running_codename
from testbed.host.packages import find_program
from testbed.model.atlas import AtlasReport
from testbed.model.outcome import CaseResult

if TYPE_CHECKING:
    from pathlib import Path

#: three cells, without rows for certain QEMUs alone
CASE = "expander-ports-stay-native"


def atlas(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", "atlas", *arguments]
    environment = {**os.environ, "COLUMNS": "250"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.seconds(20)
def test_an_atlas_of_one_place_is_its_page_and_json_and_is_complete_when_resumed(tmp_path: Path) -> None:
    done = atlas(
        tmp_path, CASE, "--qemu", "qemu-system-x86_64", "--page", "atlas.md", "--json", "atlas.json", "--no-fetch"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = AtlasReport.model_validate_json((tmp_path / "atlas.json").read_text())
    (case,) = report.cases
    (result,) = case.results
    assert (result.result, result.ran, len(result.skipped)) == (CaseResult.REPRODUCED, 3, 0)
    assert report.qemus[0].version[0].isdigit()
    assert f"| {CASE} | ✓ yes |  |" in (tmp_path / "atlas.md").read_text()
    (rundir,) = (tmp_path / "testbed-runs").iterdir()
    again = atlas(tmp_path, "--resume", str(rundir), "--json", "again.json")
    assert again.returncode == 0, again.stderr
    assert "3 cells, 3 done before: no boot" in again.stdout
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads((tmp_path / "atlas.json").read_text())
    for word in (CASE, "--cross=full", "--fresh"):
        other = atlas(tmp_path, word, "--resume", str(rundir))
        assert (other.returncode, "its cases, columns and run options cannot be changed" in other.stderr) == (2, True)


@pytest.mark.network
@pytest.mark.extended
@pytest.mark.skipif(not find_program("apt-get"), reason="this host has no apt")
@pytest.mark.skipif(running_codename() not in ("bookworm", "trixie"), reason="names suites of Debian 12's archive")
def test_the_report_is_seen_on_a_qemu_of_that_time_with_nothing_set_on_purpose(tmp_path: Path) -> None:
    """QEMU 5.2 takes no JSON for devices, no -action, and has no ACPI hot-plug below root ports to switch off."""
    cases = ("pcie-aspm-off", "rescan-no-longer-helps")
    suites = ("--qemu", "bullseye", "--qemu", "trixie-backports", "--qemu", "nosuch")
    done = atlas(tmp_path, *cases, *suites, "--json", "atlas.json")
    report = AtlasReport.model_validate_json((tmp_path / "atlas.json").read_text())
    assert [column.version[:3] for column in report.qemus] == ["5.2", "11."]
    assert [(gap.name, "no suite nosuch" in gap.why) for gap in report.gaps] == [("nosuch", True)]
    aspm, rescan = report.cases
    assert [result.result for result in aspm.results] == [CaseResult.REPRODUCED] * 2, done.stdout
    assert [result.result for result in rescan.results] == [CaseResult.SKIPPED, CaseResult.REPRODUCED], done.stdout
    changed = {boundary.cell: boundary for boundary in rescan.boundaries}
    helped = changed["disk-plug-after-rescan q35[hotplug=native] pcie_aspm=off"]
    assert (helped.answer_before, helped.answer_since) == ("good (present)", "bad (ignored)")
    assert "d5daff7d3126" in helped.reason
    default = next(boundary for boundary in aspm.boundaries if boundary.cell == "disk-unplug q35 pcie_aspm=off")
    assert default.answer_before == "bad (ignored)"

"""`testbed run` as a user calls it: table, JSON, exit codes, rundirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", "run", *arguments]
    wide = {**os.environ, "COLUMNS": "250"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=wide)


@pytest.mark.seconds(15)
def test_a_good_scenario_exits_0_and_its_json_fits_the_schema(tmp_path: Path) -> None:
    result = _run(tmp_path, "disk-unplug", "--machine", "i440fx", "--fresh", "--accel", "tcg", "--json", "-")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    (cell,) = report["cells"]
    assert (report["schema"], report["case"], report["result"]) == (1, None, "reproduced")
    assert (cell["verdict"], cell["outcome"], cell["accel"], cell["start"]) == ("good", "deleted", "tcg", "fresh")
    assert {finding["subject"] for finding in cell["findings"]} >= {"QMP event", "QEMU device tree", "guest sysfs"}
    assert json.loads((Path(cell["rundir"]) / "outcome.json").read_text()) == cell
    assert "good" in result.stderr
    assert "released after" in result.stderr


@pytest.mark.seconds(10)
def test_a_missing_disk_is_skipped_with_its_mend(tmp_path: Path) -> None:
    result = _run(tmp_path, "disk-unplug", "-p", "devices=e1000")
    assert result.returncode == 125
    assert "no cold-plugged disk" in " ".join(result.stdout.split())
    assert "-p devices=virtio-blk" in result.stdout


@pytest.mark.seconds(10)
def test_a_panic_at_boot_is_broken(tmp_path: Path) -> None:
    result = _run(tmp_path, "disk-present", "--cmdline", "initcall_blacklist=populate_rootfs")
    assert result.returncode == 128
    assert "panic" in result.stdout


@pytest.mark.seconds(10)
def test_cells_of_one_scenario_keep_their_files_apart(tmp_path: Path) -> None:
    ids = ["disk-present q35", "disk-present q35[hotplug=native]"]
    result = _run(tmp_path, *ids, "--json", "report.json")
    assert result.returncode == 0, result.stderr
    reports = json.loads((tmp_path / "report.json").read_text())
    assert "[2/2]" in result.stdout, "they are one queue"
    rundirs = [Path(cell["rundir"]) for report in reports for cell in report["cells"]]
    kept = [json.loads((rundir / "outcome.json").read_text())["id"] for rundir in rundirs]
    assert (len({rundir.parent for rundir in rundirs}), kept) == (2, ids)
    assert [len(json.loads((rundir.parent / "report.json").read_text())["cells"]) for rundir in rundirs] == [1, 1]

"""`testbed matrix` as a user calls it: grid, JSON, baseline, exit codes, interrupt and resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.campaign.matrix.results import RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable

NATIVE = "q35[hotplug=native]"
BAD = f"verdict=bad; machine={NATIVE}; cmdline=pcie_aspm=off"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "testbed", "matrix", *arguments]


def surroundings(folder: Path) -> dict[str, str]:
    """Return an environment in which no guest is saved yet."""
    return {**os.environ, "COLUMNS": "250", "TESTBED_SNAPSHOTS": str(folder / "snapshots")}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, check=False, env=surroundings(folder)
    )


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return what a run has written so far, whole lines only."""
    found = list(folder.glob(f"testbed-runs/*/{RESULTS}"))
    text = found[0].read_text() if found else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.seconds(40)
def test_a_matrix_is_judged_cell_by_cell_and_is_a_baseline(tmp_path: Path) -> None:
    (tmp_path / "matrix.yaml").write_text(
        """\
kind: matrix
title: who releases a disk
axes:
  scenario: [disk-unplug, disk-plug]
  machine: [i440fx, "q35[hotplug=native]"]
  cmdline: ["", pcie_aspm=off]
  accel: tcg
exclude:
  - {machine: i440fx, cmdline: pcie_aspm=off}
expect:
  - {machine: "q35[hotplug=native]", cmdline: pcie_aspm=off, verdict: bad}
"""
    )
    result = run(tmp_path, "matrix.yaml", "--json", "base.json")
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((tmp_path / "base.json").read_text())
    verdicts = {
        (row["axes"]["scenario"], row["axes"]["machine"], row["axes"]["cmdline"]): cell["verdict"]
        for row, cell in zip(report["rows"], report["cells"], strict=True)
    }
    assert verdicts == {
        (scenario, machine, cmdline): "bad" if cmdline else "good"
        for scenario in ("disk-unplug", "disk-plug")
        for machine, cmdline in (("i440fx", ""), (NATIVE, ""), (NATIVE, "pcie_aspm=off"))
    }
    assert report["complete"]
    # both scenarios of a machine and line share one boot
    assert "6 cells: 3 boots, " in result.stdout
    assert sorted(cell["start"] for cell in report["cells"]) == ["fresh"] * 3 + ["warm"] * 3
    assert "6 cells: 4 good, 2 bad" in result.stdout
    for cell in report["cells"]:
        assert json.loads((Path(cell["rundir"]) / "outcome.json").read_text()) == cell

    # what was good is bad now, and the other way round
    base = json.loads((tmp_path / "base.json").read_text())
    for cell in base["cells"]:
        if cell["scenario"] == "disk-unplug" and cell["cmdline"]:
            cell["verdict"] = "good"
    base["rows"][0]["axes"]["machine"] = "pc-i440fx-gone"
    (tmp_path / "base.json").write_text(json.dumps(base))
    again = run(tmp_path, "matrix.yaml", "--against", "base.json")
    assert "6 cells: no boot, " in again.stdout
    assert again.returncode == 0, "bad is what is expected there"
    assert "no regression, 1 changed, 4 the same, 1 new, 1 gone" in again.stdout
    free = run(
        tmp_path, "disk-unplug", "-m", NATIVE, "--cmdline", "pcie_aspm=off", "--accel", "tcg", "--against", "base.json"
    )
    assert free.returncode == 1
    assert "1 regression" in free.stdout


@pytest.mark.seconds(40)
def test_an_interrupted_matrix_tells_what_is_there_and_goes_on(tmp_path: Path) -> None:
    arguments = ("disk-unplug", "-m", "i440fx", "--accel", "tcg", "--repeat", "6", "--jobs", "1")
    process = subprocess.Popen(
        command(*arguments),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=surroundings(tmp_path),
    )
    wait_for(lambda: len(lines(tmp_path)) >= 2, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    before = lines(tmp_path)
    assert 2 <= len(before) < 6
    assert f"{6 - len(before)} not run" in out
    (rundir,) = (tmp_path / "testbed-runs").iterdir()
    assert f"testbed matrix --resume {rundir}" in out
    # a line that a killed process left half written
    with (rundir / RESULTS).open("a") as file:
        file.write('{"index": 5, "row"')
    result = run(tmp_path, "--resume", str(rundir), "--json", "-")
    assert result.returncode == 0, result.stdout + result.stderr
    after = lines(tmp_path)
    assert after[: len(before)] == before
    assert sorted(line["index"] for line in after) == list(range(6))
    assert json.loads(result.stdout)["complete"]
    assert f"6 cells, {len(before)} done before" in result.stderr


@pytest.mark.seconds(20)
def test_a_cell_over_its_limit_is_broken_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "asleep.py").write_text(
        '''\
from testbed.api import Judgement, Trial, scenario


@scenario()
async def asleep(trial: Trial) -> Judgement:
    """Does it never end?"""
    await trial.guest.shell.sleep(100_000)
    raise AssertionError
'''
    )
    arguments = ("asleep.py", "disk-present", "-m", "i440fx", "--accel", "tcg", "--limit", "30", "--json", "-")
    result = run(tmp_path, *arguments)
    assert result.returncode == 128, result.stdout + result.stderr
    report = json.loads(result.stdout)
    asleep, present = report["cells"]
    assert (asleep["verdict"], present["verdict"]) == ("broken", "good")
    assert "longer than its limit of 30 wall seconds" in asleep["reason"]
    assert 30 <= asleep["wall_seconds"] < 70
    assert "--limit SECONDS" in asleep["hint"]


@pytest.mark.seconds(15)
def test_a_cell_that_cannot_be_prepared_does_not_stop_the_others(tmp_path: Path) -> None:
    arguments = (
        *("disk-unplug", "-m", "i440fx", "-m", "q35[ports=1,devices=virtio-blk,virtio-blk]", "--accel", "tcg"),
        *("--unstable", "machine=i440fx; reason=only to be seen", "--json", "-"),
    )
    result = run(tmp_path, *arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    report = json.loads(result.stdout)
    good, rejected = report["cells"]
    assert good["verdict"] == "good"
    assert report["rows"][0]["unstable"] == "only to be seen"
    assert (rejected["verdict"], rejected["outcome"]) == ("broken", "rejected")
    assert "devices" in rejected["reason"]

"""This host's QEMU in a prefix of its own: probed, run and keyed with its own firmware; and cells without one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.host.accel import Accel
from testbed.host.canary import build_canary, run_canary
from testbed.host.qemu import Qemu, find_qemu
from testbed.host.qemu_prefix import PROGRAM
from testbed.machine.snapshot_store import snapshot_key
from testbed.model.spec import MachineSpec

if TYPE_CHECKING:
    from collections.abc import Callable

#: a case none of whose cells can run anywhere
FUTURE = """\
title: t
description: d
cells:
- {machine: q35, scenario: disk-unplug, qemu: nosuch-backports, expect: good, outcome: deleted, role: failing}
- machine: q35
  scenario: disk-unplug
  parameters: {devices: [nic-of-2030]}
  expect: bad
  outcome: ignored
  because: [{subject: s, observed: o}]
- machine: q35
  scenario: disk-unplug
  parameters: {devices: [nic-of-2030]}
  qemu: any
  expect: bad
  outcome: ignored
  because: [{subject: s, observed: o}]
- {machine: q35, scenario: disk-unplug, parameters: {type: pc-q35-99.0}, expect: good, outcome: deleted, role: control}
"""


@pytest.fixture
def prefix(qemu: Qemu, tmp_path: Path) -> Path:
    """Lay this host's QEMU out as `dpkg-deb -x` does."""
    root = tmp_path / "a prefix"
    (root / "usr/bin").mkdir(parents=True)
    # a symlink to the binary would be the installed one
    shutil.copy2(qemu.path.resolve(), root / "usr/bin" / PROGRAM)
    modules = Path("usr/lib/x86_64-linux-gnu/qemu")
    if (Path("/") / modules).is_dir():
        (root / modules).parent.mkdir(parents=True)
        (root / modules).symlink_to(Path("/") / modules)
    listed = subprocess.run([*qemu.command, "-L", "help"], capture_output=True, text=True, check=True).stdout
    (root / "usr/share/qemu").mkdir(parents=True)
    for folder in map(Path, listed.split()):
        for file in folder.glob("*.*"):
            if file.is_file() and file.stat().st_size < 1 << 20:
                shutil.copy2(file, root / "usr/share/qemu" / file.name)
    return root


def test_it_is_started_with_its_own_data(qemu: Qemu, prefix: Path) -> None:
    own = find_qemu(str(prefix / "usr/bin" / PROGRAM))
    assert own.data_folders == (prefix / "usr/share/qemu",)
    assert (own.version, own.machine_types, own.drivers) == (qemu.version, qemu.machine_types, qemu.drivers)
    listed = subprocess.run([*own.command, "-L", "help"], capture_output=True, text=True, check=True).stdout
    assert listed.splitlines()[0] == str(prefix / "usr/share/qemu")
    assert own.properties("e1000") == qemu.properties("e1000")


def test_a_guest_runs_on_its_firmware(prefix: Path) -> None:
    own = find_qemu(str(prefix / "usr/bin" / PROGRAM))
    assert run_canary(own, "tcg", "qemu64", image=build_canary(), limit=60).alive
    for bios in (prefix / "usr/share/qemu").glob("bios*.bin"):
        bios.write_bytes(bytes(bios.stat().st_size))
    assert not run_canary(own, "tcg", "qemu64", image=build_canary(), limit=5).alive, "it took the host's firmware"


def test_a_saved_state_belongs_to_its_firmware(qemu: Qemu, prefix: Path, tmp_path: Path) -> None:
    def key(chosen: Qemu) -> str | None:
        spec = MachineSpec.model_validate({"machine_type": "q35"})
        return snapshot_key([], spec=spec, qemu=chosen, accel=Accel(name="tcg", reason="test"), state=["i"])

    before = key(find_qemu(str(prefix / "usr/bin" / PROGRAM)))
    moved = tmp_path / "moved"
    shutil.copytree(prefix, moved)
    (moved / "usr/share/qemu/bios-256k.bin").write_bytes(b"other")
    keys = {before, key(find_qemu(str(moved / "usr/bin" / PROGRAM))), key(qemu)}
    assert len(keys) == 3


@pytest.fixture
def testbed(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "testbed", *arguments]
        environment = {**os.environ, "COLUMNS": "200", **variables}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return run


def store(prefix: Path, cache: Path, name: str) -> Path:
    """Put a prefix into a QEMU store as if it had been fetched."""
    place = cache / "qemu" / name
    shutil.copytree(prefix, place)
    (place / "qemu.json").write_text(json.dumps({"name": name, "packages": {}}))
    return place


def test_a_fetched_one_is_listed_taken_by_its_name_and_removed(
    prefix: Path, tmp_path: Path, testbed: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    cache = {"TESTBED_CACHE": str(tmp_path / "cache")}
    place = store(prefix, tmp_path / "cache", "sid")
    done = testbed("qemu", "list", "--json", TESTBED_QEMU_PATH="/bin/true", **cache)
    rows: dict[str, dict[str, Any]] = {row["name"]: row for row in json.loads(done.stdout)["qemus"]}
    assert [row["default"] for row in rows.values()].count(True) == 1
    assert rows["sid"]["command"][-2:] == ["-L", str(place / "usr/share/qemu")]
    assert "cannot be probed" in rows["/bin/true"]["error"]
    table = testbed("qemu", "list", **cache)
    assert (table.returncode, "sid" in table.stdout) == (0, True)
    needed = testbed("qemu", "fetch", "--for-case", "all", **cache)
    assert (needed.returncode, needed.stderr) == (0, ""), "one was fetched before: it is not done again"
    asked = testbed("doctor", "--json", "--qemu", "sid", **cache)
    (found,) = [check for check in json.loads(asked.stdout)["checks"] if check["name"] == "qemu"]
    assert str(place) in found["message"]
    assert "sid removed" in testbed("qemu", "remove", "sid", **cache).stdout
    assert not place.exists()


def test_cells_whose_qemu_or_device_is_not_there_are_skipped_with_what_provides_it(
    tmp_path: Path, testbed: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "future.yaml").write_text(FUTURE)
    done = testbed("run", "./future.yaml", "--json", "out.json")
    assert done.returncode == 125, done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    report = report[0] if isinstance(report, list) else report
    assert report["result"] == "skipped"
    cells = report["cells"]
    assert {(cell["verdict"], cell["outcome"]) for cell in cells} == {("skip", "unsupported")}
    assert [cell["hint"] for cell in cells] == ["testbed qemu fetch nosuch-backports"] + ["testbed qemu fetch"] * 3
    for cell, lacking in zip(cells, ("nosuch-backports", "nic-of-2030", "nic-of-2030", "pc-q35-99.0"), strict=True):
        assert lacking in cell["reason"]
        folder = Path(cell["rundir"])
        assert json.loads((folder / "outcome.json").read_text()) == cell
        assert (folder / cell["findings"][0]["evidence"]).is_file()


def test_a_slip_of_a_person_s_is_no_skip(testbed: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = testbed("run", "disk-unplug", "-p", "devices=virtio-blk,e1000x")
    assert done.returncode == 2
    assert "did you mean e1000" in done.stderr


def test_another_qemu_that_has_it_is_named(
    qemu: Qemu, tmp_path: Path, testbed: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Make a QEMU that has one device less; the whole one is named beside it, and `any` takes it."""
    less = tmp_path / "less"
    less.write_text(f'#!/bin/sh\n{qemu.path} "$@" | sed \'s/"name": "e1000e"/"name": "e1000f"/g\'\n')
    less.chmod(0o755)
    chosen = ("render", "q35", "-p", "devices=e1000e", "--image", "no-such-image")
    done = testbed(*chosen, "--qemu", str(less))
    assert done.returncode == 2
    assert f"another QEMU of this host has it: --qemu {qemu.path}" in done.stderr
    done = testbed(*chosen, "--qemu", "any", TESTBED_QEMU=str(less))
    assert "image recipe 'no-such-image' does not exist" in done.stderr

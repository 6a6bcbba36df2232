"""`testbed doctor` on this host, and on hosts that lack something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from testbed.doctor import Check, State, examine, guests_at_once, is_ready
from testbed.host.packages import NEEDS, find_program

if TYPE_CHECKING:
    from pathlib import Path

QEMU = "qemu-system-x86_64"
#: what those programs run in turn
ALSO = ("as", "ld", "sh", "true", "ldd", "env")


def doctor(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "250", **variables}
    command = [sys.executable, "-m", "testbed", "doctor", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def found(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the checks of a report by their names."""
    report = json.loads(done.stdout)
    assert report["schema"] == 1
    assert report["ready"] is (done.returncode == 0)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for check in report["checks"]:
        by_name.setdefault(check["name"], []).append(check)
    return by_name


def path_without(folder: Path, lost: str) -> str:
    """Return a PATH that holds all that is needed, save one program."""
    folder.mkdir()
    for program in {*(need.name for need in NEEDS), *ALSO} - {lost}:
        place = find_program(program)
        if place:
            (folder / program).symlink_to(place)
    return str(folder)


def test_this_host_is_ready() -> None:
    done = doctor("--json")
    checks = found(done)
    bad = [check for group in checks.values() for check in group if check["state"] == "bad"]
    assert (done.returncode, bad) == (0, [])
    names = {"python", "programs", "child processes", "qemu", "cases", "kvm", "images", "cache", "temporary folder"}
    assert names | {"disk space", "open files", "memory", "guests", "leftovers", "firmware"} == set(checks)


def test_a_command_that_mends_several_things_is_printed_once(tmp_path: Path) -> None:
    cases = tmp_path / "cases"
    cases.mkdir()
    for n in range(2):
        (cases / f"future{n}.yaml").write_text(
            "title: t\ndescription: d\ncells:\n  - {machine: q35, parameters: {type: pc-q35-99.0}, "
            "scenario: disk-unplug, expect: good, outcome: deleted}\n"
        )
    printed = doctor(TESTBED_PATH=str(tmp_path)).stdout.splitlines()
    assert len([line for line in printed if "pc-q35-99.0" in line]) == 2
    assert printed.count("cases: testbed qemu fetch") == 1


def test_what_could_be_better_comes_with_its_mend() -> None:
    for check in examine():
        if check.name in ("kvm", "images") and check.state is not State.OK:
            assert check.mend


def test_a_host_without_ovmf_is_ready_and_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.host.firmware.OVMF", ())
    monkeypatch.setattr("testbed.host.firmware._descriptors", lambda _: [])
    (firmware,) = [check for check in examine() if check.name == "firmware"]
    assert firmware.state is State.NOTE
    assert "ovmf" in firmware.mend
    assert "testbed qemu fetch" in firmware.mend


def test_people_read_a_table() -> None:
    done = doctor()
    assert done.returncode == 0
    assert "this host is ready" in done.stdout


def test_a_missing_program_is_named_with_its_package(tmp_path: Path) -> None:
    done = doctor("--json", PATH=path_without(tmp_path / "bin", "socat"))
    assert done.returncode == 1
    (check,) = found(done)["programs"]
    assert check["state"] == "bad"
    assert "socat" in check["message"]
    assert "socat" in check["mend"]


def test_a_missing_qemu_is_told_once(tmp_path: Path) -> None:
    done = doctor("--json", PATH=path_without(tmp_path / "bin", QEMU))
    checks = found(done)
    assert done.returncode == 1
    (check,) = checks["qemu"]
    assert QEMU in check["message"]
    assert "cases" not in checks
    assert "kvm" not in checks


def test_a_qemu_that_is_none_is_told(tmp_path: Path) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text("#!/bin/sh\nexit 3\n")
    qemu.chmod(0o755)
    done = doctor("--json", "--qemu", str(qemu))
    assert done.returncode == 1
    assert "cannot be probed" in found(done)["qemu"][0]["message"]


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = doctor("--json", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.returncode == 1
    (check,) = found(done)["cache"]
    assert check["state"] == "bad"
    assert "XDG_CACHE_HOME" in check["mend"]


def test_a_temporary_folder_with_too_long_a_name_is_told(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 90)
    deep.mkdir()
    done = doctor("--json", TMPDIR=str(deep), XDG_RUNTIME_DIR="")
    assert done.returncode == 1
    (check,) = found(done)["temporary folder"]
    assert "too long" in check["message"]


def test_an_unbuilt_image_is_no_obstacle(tmp_path: Path) -> None:
    done = doctor("--json", XDG_CACHE_HOME=str(tmp_path))
    checks = found(done)
    assert done.returncode == 0
    assert {check["state"] for check in checks["images"]} == {"note"}
    assert "testbed image build debian" in [check["mend"] for check in checks["images"]]


def test_a_case_qemu_cannot_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "future.yaml").write_text(
        "title: t\ndescription: d\ncells:\n"
        "  - {machine: q35, parameters: {type: pc-q35-99.0}, scenario: disk-unplug, expect: good, outcome: deleted}\n"
    )
    done = doctor("--json", TESTBED_PATH=str(tmp_path))
    (wrong,) = [check for check in found(done)["cases"] if check["state"] != "ok"]
    assert (done.returncode, wrong["state"]) == (0, "note"), "its cells are skipped: no obstacle"
    assert wrong["message"].startswith("future: ")
    assert "pc-q35-99.0" in wrong["message"]
    assert wrong["mend"] == "testbed qemu fetch"


@pytest.mark.parametrize(
    ("cores", "fit", "state", "at_once"), [(2, 20, State.OK, 2), (8, 4, State.NOTE, 4), (4, 1, State.NOTE, 1)]
)
def test_how_many_guests_run_at_once_follows_cores_and_memory(cores: int, fit: int, state: State, at_once: int) -> None:
    guests = guests_at_once(cores, fit)
    assert guests.state is state
    assert guests.message.startswith(f"{at_once} at once: {cores} cores")
    assert bool(guests.mend) is (state is State.NOTE)


def test_a_note_is_no_obstacle() -> None:
    note = Check(name="x", state=State.NOTE, message="m")
    assert is_ready([note])
    assert not is_ready([note, Check(name="y", state=State.BAD, message="m")])

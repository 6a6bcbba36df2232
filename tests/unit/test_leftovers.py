"""What a killed test bed leaves is told from what is in use and from what is somebody else's; `testbed clean`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from testbed.host.claim import MARK, Claim, claimed, read_claim, scratch_folder
from testbed.host.host import LocalHost
from testbed.host.leftovers import old_rundirs, orphans, qmp_socket, size_of, stale_temp_folders

DIES_IN_ITS_FOLDER = """
import asyncio, os, signal
from testbed.host.host import LocalHost

async def main():
    async with LocalHost():
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
DIES_IN_A_SCRATCH_FOLDER = """
import os, signal
from testbed.host.claim import scratch_folder

with scratch_folder("purpose"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the temporary folder of this test bed and of those it starts."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(folder))
    # a developer's own TESTBED_CACHE would be cleaned
    monkeypatch.delenv("TESTBED_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def leave_stale(place: Path, program: str = DIES_IN_ITS_FOLDER) -> Path:
    """Kill a test bed that has a private folder, and return that."""
    before = set(place.iterdir())
    subprocess.run([sys.executable, "-c", program], check=False)
    (folder,) = set(place.iterdir()) - before
    return folder


def clean(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", "clean", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def finished_run(base: Path, name: str = "20260102-030405-77") -> Path:
    folder = base / name
    (folder / "case").mkdir(parents=True)
    (folder / "case" / "report.json").write_text("{}")
    return folder


async def test_a_live_owner_s_folder_is_in_use(place: Path) -> None:
    async with LocalHost():
        (folder,) = place.iterdir()
        assert read_claim(folder) is Claim.LIVE
        assert stale_temp_folders() == []
    assert list(place.iterdir()) == []


def test_a_killed_owner_s_folder_is_left(place: Path) -> None:
    folder = leave_stale(place)
    assert read_claim(folder) is Claim.LEFT
    assert stale_temp_folders() == [folder]


def test_a_recycled_process_id_is_no_owner(place: Path) -> None:
    """Put the number of a living process into the mark of one that is gone."""
    folder = leave_stale(place)
    mark = folder / MARK
    words, _, number = mark.read_text().strip().rpartition(" ")
    assert number != str(os.getpid())
    mark.write_text(f"{words} {os.getpid()}\n")
    assert read_claim(folder) is Claim.LEFT


def test_looking_twice_at_once_finds_the_same(place: Path) -> None:
    folder = leave_stale(place)
    with (folder / MARK).open("rb") as mark:
        import fcntl

        fcntl.flock(mark, fcntl.LOCK_SH)
        assert read_claim(folder) is Claim.LEFT


def test_what_has_no_mark_is_not_ours(place: Path) -> None:
    bare, forged, fifo, linked = (place / f"testbed-{name}" for name in ("bare", "forged", "fifo", "linked"))
    for folder in (bare, forged, fifo, linked):
        folder.mkdir()
    (forged / MARK).write_text("something else\n")
    os.mkfifo(fifo / MARK)
    (linked / MARK).symlink_to(leave_stale(place) / MARK)
    assert {read_claim(folder) for folder in (bare, forged, fifo, linked)} == {Claim.NONE}
    assert read_claim(place / "none") is Claim.NONE


def test_a_symlink_to_a_stale_folder_is_not_ours(place: Path) -> None:
    stale = leave_stale(place)
    (place / "testbed-link").symlink_to(stale)
    assert stale_temp_folders() == [stale]


async def test_clean_removes_the_stale_and_keeps_the_rest(place: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (place / "testbed-foreign").mkdir()
    run = finished_run(tmp_path / "testbed-runs")
    stale = leave_stale(place)
    (stale / "link").symlink_to(precious)
    async with LocalHost():
        (live,) = set(place.iterdir()) - {stale, place / "testbed-foreign"}
        listed = clean("--dry-run", folder=tmp_path)
        assert stale.exists()
        removed = clean(folder=tmp_path)
        assert set(place.iterdir()) == {live, place / "testbed-foreign"}
    assert (listed.returncode, removed.returncode) == (0, 0), removed.stderr
    assert str(stale) in listed.stdout
    assert "1 would be removed" in listed.stdout
    assert str(stale) in removed.stdout
    assert "1 removed" in removed.stdout
    assert (precious / "file").exists()
    assert run.exists()


def test_clean_has_nothing_to_do(tmp_path: Path) -> None:
    done = clean("--runs", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "nothing to remove\n")


def test_rundirs_are_known_by_what_only_a_run_writes(tmp_path: Path) -> None:
    base = tmp_path / "testbed-runs"
    finished = finished_run(base)
    broken_off = base / "20260102-030405-78"
    (broken_off / "case" / "01-cell").mkdir(parents=True)
    (broken_off / "case" / "01-cell" / "outcome.json").touch()
    (base / "20260102-030405-79" / "case").mkdir(parents=True)
    finished_run(base, "my-notes")
    (base / "20260102-030405-80").symlink_to(finished)
    assert old_rundirs(base) == [finished, broken_off]


def test_a_run_that_goes_on_keeps_its_rundir(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "testbed-runs")
    with claimed(run):
        assert old_rundirs(run.parent) == []
    assert old_rundirs(run.parent) == [run]


def test_clean_removes_runs_on_demand(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "testbed-runs")
    finished_run(tmp_path / "testbed-runs", "mine")
    done = clean("--runs", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in run.parent.iterdir()] == ["mine"]


def test_clean_does_not_follow_a_symlink_to_runs(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "elsewhere")
    (tmp_path / "testbed-runs").symlink_to(tmp_path / "elsewhere")
    done = clean("--runs", folder=tmp_path)
    assert done.returncode == 2
    assert "symlink" in done.stderr
    assert run.exists()


def test_clean_removes_the_cache_and_leaves_its_neighbours(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("testbed/canary", "testbed/disks", "testbed/kvm", "other"):
        (cache / name).mkdir(parents=True)
        (cache / name / "file").touch()
    done = clean("--images", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.relative_to(cache) for path in cache.rglob("file")] == [Path("other/file")]


def test_a_size_counts_no_symlink_s_target(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 1_000_000)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "big")
    assert size_of(folder) < 1_000_000 <= size_of(tmp_path)


@pytest.mark.parametrize(
    ("word", "socket"),
    [
        ("socket,id=qmp,path=/tmp/testbed-ab/1.qmp", "/tmp/testbed-ab/1.qmp"),
        ("socket,id=qmp,path=/a,,b/testbed-ab/1.qmp", "/a,b/testbed-ab/1.qmp"),
        ("socket,id=qmp,path=/tmp/other/1.qmp", None),
        ("socket,id=qmp,path=qmp.sock,server=on", None),
        ("socket,id=shell,path=/tmp/testbed-ab/1.shell", None),
    ],
)
def test_a_test_bed_s_qemu_is_known_by_its_socket(word: str, socket: str | None) -> None:
    assert qmp_socket(["qemu-system-x86_64", "-chardev", word]) == (Path(socket) if socket else None)


@pytest.mark.parametrize("owner", ["gone", "left", "live", "foreign"])
def test_an_orphan_is_one_whose_folder_has_no_owner(place: Path, owner: str) -> None:
    """Start a process with a QEMU's words; only whose folder it names decides."""
    folder = leave_stale(place) if owner == "left" else place / "testbed-x"
    if owner in ("live", "foreign"):
        folder.mkdir()
    word = f"socket,id=qmp,path={folder}/1.qmp"
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", word], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        if owner == "live":
            with claimed(folder):
                found = orphans()
        else:
            found = orphans()
        child.communicate(b"\n")
    assert (child.pid in found) is (owner in ("gone", "left"))


def test_a_scratch_folder_is_there_for_a_while_and_left_only_by_the_killed(place: Path) -> None:
    with scratch_folder("purpose") as folder:
        assert folder.parent == place
        assert stale_temp_folders() == []
    assert not folder.exists()
    left = leave_stale(place, DIES_IN_A_SCRATCH_FOLDER)
    assert stale_temp_folders() == [left]

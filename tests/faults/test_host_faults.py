"""Faults of a host under `testbed run`: nothing can be written, a disk is full, there are too few descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.cli.terminal import write_text
from testbed.host.cache import cache_path
from testbed.host.host import LocalProcess
from testbed.host.leftovers import stale_temp_folders
from testbed.host.qemu_prefix import PROGRAM
from testbed.image.store import find_image
from testbed.model.errors import BrokenError
from tests.disks import mbr_disk, sha256
from tests.qemu.conftest import processes_naming
from tests.tiny_system import tiny_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.pytest_plugin import Judge

#: wall seconds in which a run must have ended
DEADLINE = 300.0
#: what is done to the mounts of a process of its own before the run
READ_ONLY = 'mount --bind "$TESTBED_CACHE" "$TESTBED_CACHE" && mount -o remount,ro,bind "$TESTBED_CACHE"'
SMALL = 'mount -t tmpfs -o size=4m tmpfs "$SMALL"'
MORE_FILES = "ulimit -n 1024"
FILL = "dd if=/dev/zero of=$SMALL/filler bs=1k 2>/dev/null"


def small_with(kib: int) -> str:
    """Return the commands that leave so many KiB of 4 MiB."""
    return f"{SMALL} && mkdir $SMALL/runs && {{ {FILL} count={4096 - kib} || true; }}"


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    if find_image("debian") is None:
        pytest.skip("image debian is not built: testbed image build debian")
    before = set(Path(tempfile.gettempdir()).glob("testbed-*"))
    yield
    assert processes_naming(tmp_path) == []
    assert not set(stale_temp_folders()) - before


def run(
    folder: Path, prepare: str, *arguments: str, scenario: str = "disk-present", **variables: str
) -> subprocess.CompletedProcess[str]:
    return bed(folder, prepare, "run", scenario, *arguments, **variables)


def bed(folder: Path, prepare: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the test bed where the shell commands `prepare` were run, in a mount namespace of its own."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs root that may unshare mounts")
    small = folder / "small"
    small.mkdir()
    words = [sys.executable, "-m", "testbed", *arguments]
    cache = str(cache_path("images").parent.absolute())
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", f'{prepare} && exec "$@"', "sh", *words],
        cwd=folder,
        env={**os.environ, "TESTBED_CACHE": cache, "SMALL": str(small), "COLUMNS": "250", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


def told(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Check the exit code, that each of these words is told, and that no traceback is."""
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    for each in words:
        assert each in said, said


@pytest.mark.seconds(5)
def test_a_cache_that_cannot_be_written_is_wrong_input_with_its_mend(tmp_path: Path) -> None:
    done = run(tmp_path, READ_ONLY)
    told(done, 2, "Read-only file system", "TESTBED_CACHE=")
    assert done.stderr.count("error: ") == 1


@pytest.mark.extended
@pytest.mark.seconds(5)
def test_an_empty_cache_that_cannot_be_written_is_wrong_input_too(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    told(run(tmp_path, READ_ONLY, TESTBED_CACHE=str(empty)), 2, "Read-only file system", "TESTBED_CACHE=")


@pytest.mark.extended
@pytest.mark.seconds(10)
def test_a_temporary_folder_of_4_mib_is_enough(tmp_path: Path) -> None:
    told(run(tmp_path, SMALL, TMPDIR=str(tmp_path / "small")), 0, "64 KiB written and read back")


@pytest.mark.extended
@pytest.mark.seconds(10)
def test_another_temporary_folder_is_taken_where_one_is_full(tmp_path: Path) -> None:
    full = f"{SMALL} && {{ {FILL} count=4096 || true; }}"
    told(run(tmp_path, full, TMPDIR=str(tmp_path / "small"), XDG_RUNTIME_DIR=""), 0, "64 KiB written and read back")


@pytest.mark.extended
@pytest.mark.seconds(10)
@pytest.mark.parametrize("room", [0, 8, 24, 64, 128])
def test_a_rundir_whose_disk_is_full_is_broken_with_the_reason(tmp_path: Path, room: int) -> None:
    """Leave so many KiB of 4 MiB: a run needs about 170, so each ends at another step of it."""
    done = run(tmp_path, small_with(room), "--rundir", str(tmp_path / "small/runs"))
    told(done, 128, "No space left on device")


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize("room", [0, 8, 24, 64, 128])
def test_a_migration_whose_disk_is_full_is_broken_with_the_reason(tmp_path: Path, room: int) -> None:
    """A run across one needs under 200 KiB."""
    migrate = ("-s", "migrate=pending", "--rundir", str(tmp_path / "small/runs"))
    told(run(tmp_path, small_with(room), *migrate, scenario="disk-unplug"), 128, "No space left on device")


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize("room", [0, 4, 16, 64, 300])
def test_an_atlas_whose_disk_is_full_stops_with_the_reason_and_goes_on_once_there_is_room(
    tmp_path: Path, room: int
) -> None:
    runs = str(tmp_path / "small/runs")
    atlas = ("atlas", "ghost-disk", "--no-fetch", "--qemu", PROGRAM, "--rundir", runs)
    told(bed(tmp_path, small_with(room), *atlas), 128, "No space left on device")


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize("pages", [1, 2])
def test_a_store_of_disks_that_is_full_is_told_and_the_disk_is_as_it_was(tmp_path: Path, pages: int) -> None:
    """The digest takes a page, and what was read some more."""
    disk = mbr_disk(tmp_path / "customer.raw", [tiny_root(tmp_path)])
    before = sha256(disk)
    store = cache_path("disks")
    full = f"mount -t tmpfs -o size={4 * pages}k tmpfs {store}"
    done = bed(tmp_path, full, "image", "show", f"disk:{disk}")
    told(done, 128, f"{store}/", "No space left on device")
    assert sha256(disk) == before


@pytest.mark.extended
@pytest.mark.seconds(20)
def test_a_guest_that_fills_the_disk_of_the_rundir_is_broken_with_the_reason(tmp_path: Path) -> None:
    flood = ("-s", f"after=yes {'x' * 500} > /dev/ttyS0", "--rundir", str(tmp_path / "small/runs"))
    done = run(tmp_path, small_with(512), *flood, scenario=str(Path(__file__).with_name("still_answers.py")))
    told(done, 128, "console: writing console.log: No space left on device")


def test_a_file_on_a_full_disk_is_no_wrong_input() -> None:
    with pytest.raises(BrokenError, match="writing /dev/full: No space left on device"):
        write_text("a report", Path("/dev/full"))


@pytest.mark.extended
@pytest.mark.seconds(30)
@pytest.mark.parametrize(
    ("limit", "code", "words"),
    [
        (12, 128, "ulimit -n 1024"),
        (16, 128, "ulimit -n 1024"),
        (20, 128, "ulimit -n 1024"),
        (64, 0, "good disk-present"),
    ],
)
def test_few_descriptors_are_enough_or_told_with_the_mend(tmp_path: Path, limit: int, code: int, words: str) -> None:
    told(run(tmp_path, f"ulimit -n {limit}"), code, words)


async def test_what_nobody_expected_is_broken_and_leaves_its_traceback(
    testbed_try: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = LocalProcess.end

    async def ends_and_raises(process: LocalProcess) -> None:
        await end(process)
        raise TimeoutError

    monkeypatch.setattr(LocalProcess, "end", ends_and_raises)
    outcome = await testbed_try("disk-present", "i440fx")
    assert (outcome.verdict, outcome.outcome, outcome.reason) == ("broken", "bed-error", "TimeoutError")
    assert outcome.findings[0].evidence == "traceback.txt"
    assert "in ends_and_raises" in (Path(outcome.rundir) / "traceback.txt").read_text()

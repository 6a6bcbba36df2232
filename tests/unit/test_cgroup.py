"""What control groups leave to this process: both hierarchies, its own group and those above it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.host.cgroup import ControlGroups
from testbed.host.slots import core_count

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


def write(folder: Path, **files: str) -> None:
    """Write a group's files; `_` in a name is `.` where the first one stands."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{content}\n")


def memory(folder: Path, limit: str, used: int = 0, cache: int = 0) -> None:
    write(folder, memory_max=limit, memory_current=str(used * MIB), memory_stat=f"anon 1\nfile {cache * MIB}")


@pytest.fixture
def groups(tmp_path: Path) -> ControlGroups:
    (tmp_path / "membership").write_text("0::/a/b\n")
    return ControlGroups(mounted=tmp_path / "cgroup", membership=tmp_path / "membership")


def test_without_groups_there_is_no_limit(groups: ControlGroups) -> None:
    assert (groups.free_mib(), groups.cpus()) == (None, None)
    groups.membership.unlink()
    assert (groups.free_mib(), groups.cpus()) == (None, None)


def test_page_cache_is_free(groups: ControlGroups) -> None:
    memory(groups.mounted / "a/b", str(1000 * MIB), used=700, cache=200)
    assert groups.free_mib() == 500
    memory(groups.mounted / "a/b", "max", used=700, cache=200)
    assert groups.free_mib() is None


def test_groups_above_limit_it_too(groups: ControlGroups) -> None:
    memory(groups.mounted / "a/b", str(1000 * MIB))
    memory(groups.mounted / "a", str(800 * MIB), used=500)
    assert groups.free_mib() == 300
    write(groups.mounted / "a/b", cpu_max="max 100000")
    write(groups.mounted / "a", cpu_max="150000 100000")
    assert groups.cpus() == 1.5


def test_of_a_container_the_mounted_group_counts(groups: ControlGroups) -> None:
    groups.membership.write_text("0::/docker/0123\n")
    memory(groups.mounted, str(400 * MIB), used=100)
    write(groups.mounted, cpu_max="50000 100000")
    assert (groups.free_mib(), groups.cpus()) == (300, 0.5)


def test_the_older_hierarchy_is_read(groups: ControlGroups) -> None:
    groups.membership.write_text("5:cpu,cpuacct:/c\n4:memory:/m\n1:name=systemd:/s\n")
    write(
        groups.mounted / "memory/m",
        memory_limit_in_bytes=str(900 * MIB),
        memory_usage_in_bytes=str(600 * MIB),
        memory_stat=f"cache 1\ntotal_cache {100 * MIB}",
    )
    write(groups.mounted / "cpu/c", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    write(groups.mounted / "cpu", cpu_cfs_quota_us="400000", cpu_cfs_period_us="100000")
    assert (groups.free_mib(), groups.cpus()) == (400, 4.0)


@given(st.text(), st.text())
def test_any_content_is_read(tmp_path_factory: pytest.TempPathFactory, limit: str, quota: str) -> None:
    folder = tmp_path_factory.mktemp("groups")
    (folder / "membership").write_text("0::/\n")
    write(folder / "cgroup", memory_max=limit, memory_current="0", cpu_max=quota)
    groups = ControlGroups(mounted=folder / "cgroup", membership=folder / "membership")
    assert (groups.free_mib() or 0) >= 0
    assert (groups.cpus() or 0) >= 0


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (0.5, 1), (2.9, 2), (64.0, 8)])
def test_guests_follow_cores_and_quota(monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(ControlGroups, "cpus", lambda _: quota)
    assert core_count() == cores


MOUNTED = Path("/sys/fs/cgroup")
ASK = "from testbed.host.cgroup import ControlGroups as G; g = G(); print(g.cpus(), g.free_mib())"


def _controllers(name: str) -> list[Path]:
    """Return the folders in which a group of this process's can be made that limits CPU time and memory."""
    if (MOUNTED / "cgroup.controllers").exists():
        enabled = (MOUNTED / "cgroup.subtree_control").read_text().split()
        return [MOUNTED / name] if {"cpu", "memory"} <= set(enabled) else []
    return [MOUNTED / controller / name for controller in ("cpu", "memory") if (MOUNTED / controller).is_dir()]


@pytest.fixture
def own_groups() -> Iterator[list[Path]]:
    made = []
    try:
        for folder in _controllers(f"testbed-{os.getpid()}"):
            try:
                folder.mkdir()
            except OSError as error:
                pytest.skip(f"this host lets no control group be made: {error}")
            made.append(folder)
        if not made:
            pytest.skip("this host has no control groups for CPU time and memory")
        yield made
    finally:
        for folder in made:
            folder.rmdir()


def test_what_the_kernel_grants_a_group_is_what_is_read(own_groups: list[Path]) -> None:
    limits = {
        **{"cpu.max": "50000 100000", "cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"},
        **{"memory.max": str(300 * MIB), "memory.limit_in_bytes": str(300 * MIB)},
    }
    for folder in own_groups:
        for name, limit in limits.items():
            if (folder / name).exists():
                (folder / name).write_text(limit)

    def join() -> None:
        for folder in own_groups:
            with contextlib.suppress(FileNotFoundError):
                (folder / "cgroup.procs").write_text(str(os.getpid()))

    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True, preexec_fn=join)
    cpus, free = done.stdout.split()
    assert float(cpus) == 0.5
    assert 200 < int(free) <= 300

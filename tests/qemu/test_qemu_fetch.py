"""A QEMU really fetched from another suite of the configured archive, and asked what it can do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from testbed.host.apt_sources import configured_archives, running_codename
from testbed.host.packages import find_program
from testbed.host.qemu_prefix import PROGRAM, parse_strangers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(not find_program("apt-get"), reason="this host has no apt"),
]


def qemu(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", "qemu", *arguments]
    environment = {**os.environ, "COLUMNS": "200", "TESTBED_CACHE": str(cache)}
    environment.pop("TESTBED_QEMU", None)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.seconds(15)
def test_the_backports_qemu_is_fetched_asked_and_removed(tmp_path: Path) -> None:
    name = f"{running_codename()}-backports"
    done = qemu(tmp_path, "fetch", name, "--for-case", "all")
    assert done.returncode == 0, done.stderr
    own = json.loads(qemu(tmp_path, "list", "--json").stdout)["qemus"]
    if not any(row["name"] == name for row in own):
        assert any(row["features"]["igb"] for row in own), "not fetched, though the cases need it"
        assert qemu(tmp_path, "fetch", name).returncode == 0
    (row,) = [row for row in json.loads(qemu(tmp_path, "list", "--json").stdout)["qemus"] if row["name"] == name]
    assert row["error"] is None
    assert row["path"].startswith(str(tmp_path))
    assert "tcg" in row["accelerators"]
    assert row["features"]["igb"] is True
    again = qemu(tmp_path, "fetch", name)
    assert "has nothing newer" in again.stderr
    assert "downloading" not in again.stderr
    hosts = {match[1] for archive in configured_archives() if (match := re.search(r"://([^/]+)", archive.address))}
    assert not [host for host in hosts if host in done.stdout + done.stderr + again.stderr]
    assert qemu(tmp_path, "remove", name).returncode == 0
    assert [path.name for path in (tmp_path / "qemu").iterdir()] == ["lock"]


def test_a_suite_that_does_not_exist_is_told(tmp_path: Path) -> None:
    done = qemu(tmp_path, "fetch", "nosuch")
    assert done.returncode == 2
    assert "the configured archive has no suite nosuch" in done.stderr


#: suites of the distribution other than the running release, oldest first; each is whole by itself, or with its release
OTHERS = ("bullseye", "trixie", "trixie-backports", "sid")


@pytest.mark.extended
@pytest.mark.skipif(running_codename() not in ("bookworm", "trixie"), reason="names suites of Debian 12's archive")
@pytest.mark.parametrize("suite", OTHERS)
def test_another_suite_s_qemu_runs_on_libraries_of_its_own_alone(suite: str, tmp_path: Path) -> None:
    done = qemu(tmp_path, "fetch", suite)
    assert done.returncode == 0, done.stderr
    (row,) = [row for row in json.loads(qemu(tmp_path, "list", "--json").stdout)["qemus"] if row["name"] == suite]
    assert row["error"] is None
    command = row["command"]
    if "--library-path" in command:
        program = next(n for n, word in enumerate(command) if word.endswith(PROGRAM))
        listed = subprocess.run(
            [*command[:program], "--list", command[program]], capture_output=True, text=True, check=True
        ).stdout
        assert not parse_strangers(listed, tmp_path), "a library is the host's"
        assert "libc.so.6 => " in listed
    else:
        assert suite == running_codename()

"""`git bisect run testbed run … --git-bisect`: the right commit is named, whatever else is wrong with others."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.image.store import ensure_image

CHECK = f"""\
#!/bin/sh
exec {sys.executable} -m testbed run disk-unplug -p hotplug=native --git-bisect \\
    --image ./image.yaml --cmdline "$(cat cmdline)" --rundir ../runs
"""
GOOD = "apt:linux-image-amd64"
#: one commit each: its message, the kernel of its image, and its command line
HISTORY = [
    ("good", GOOD, "quiet"),
    ("more words", GOOD, "quiet loglevel=3"),
    ("a kernel that does not boot", "path:broken/vmlinux", "quiet loglevel=3"),
    ("more words still", GOOD, "quiet loglevel=3 nokaslr"),
    ("the culprit", GOOD, "quiet loglevel=3 nokaslr pcie_aspm=off"),
    ("a word after it", GOOD, "quiet loglevel=3 nokaslr pcie_aspm=off noresume"),
    ("a missing file", "path:gone/vmlinux", "quiet loglevel=3 nokaslr pcie_aspm=off noresume"),
    ("bad", GOOD, "quiet nokaslr pcie_aspm=off noresume"),
]


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    names = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {**os.environ, **names}
    return subprocess.run(["git", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False)


def _broken_kernel(release: str) -> bytes:
    """Return a vmlinux whose PVH entry is an undefined instruction: with no handler for it the machine resets."""
    entry = 0x100000
    code = b"\x0f\x0b".ljust(64, b"\x90")
    note = struct.pack("<III", 4, 4, 18) + b"Xen\0" + struct.pack("<I", entry)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    at = 64 + 2 * 56
    load = struct.pack("<IIQQQQQQ", 1, 5, at, entry, entry, len(code), len(code), 0x1000)
    notes = struct.pack("<IIQQQQQQ", 4, 4, at + len(code), 0, 0, len(note), len(note), 4)
    return header + load + notes + code + note + f"Linux version {release} (t@example.org)".encode()


def _repository(folder: Path) -> None:
    shipped = (Path(__file__).parents[2] / "guest-images" / "debian.yaml").read_text()
    assert GOOD in shipped
    _git(folder, "init", "-q")
    (folder / "broken").mkdir()
    (folder / "broken/vmlinux").write_bytes(_broken_kernel(ensure_image("debian", progress=print).kernel))
    (folder / "check").write_text(CHECK)
    (folder / "check").chmod(0o755)
    for message, kernel, cmdline in HISTORY:
        (folder / "image.yaml").write_text(shipped.replace(GOOD, kernel))
        (folder / "cmdline").write_text(cmdline)
        _git(folder, "add", ".")
        _git(folder, "commit", "-qm", message)


@pytest.mark.extended
@pytest.mark.network
@pytest.mark.seconds(70)
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_bisect_names_the_culprit(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    _repository(folder)
    _git(folder, "bisect", "start", "HEAD", f"HEAD~{len(HISTORY) - 1}")
    told = []
    for _ in HISTORY:
        result = _git(folder, "bisect", "run", "./check")
        told.append(result.stdout + result.stderr)
        if "first bad commit" in result.stdout or "first 'bad' commit" in result.stdout:
            break
        # a missing file is not the tree's word on the question: the bisect stops, and its user says to skip it
        assert _git(folder, "log", "-1", "--format=%s").stdout.strip() == "a missing file", told[-1]
        _git(folder, "bisect", "skip")
    named = _git(folder, "log", "-1", "--format=%s", "refs/bisect/bad").stdout.strip()
    assert named == "the culprit", "\n".join(told)


@pytest.mark.network
@pytest.mark.seconds(15)
@pytest.mark.parametrize(
    ("message", "code"), [("the culprit", 1), ("a kernel that does not boot", 125), ("a missing file", 128)]
)
def test_a_commit_is_called_bad_for_one_reason_only(message: str, code: int, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    _repository(folder)
    _git(folder, "checkout", "-q", f":/{message}")
    assert subprocess.run(["./check"], cwd=folder, capture_output=True, check=False).returncode == code


@pytest.mark.parametrize("arguments", [["nope"], ["disk-unplug", "--nosuch"], ["disk-unplug", "--jobs", "0"]])
def test_wrong_usage_stops_a_bisect(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "testbed", "run", "--git-bisect", *arguments]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 128

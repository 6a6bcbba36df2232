"""A file system whose locks do not work is refused, wherever the test bed would lock a file first."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from testbed.host.cache import cache_path
from testbed.host.compiler import compile_c

if TYPE_CHECKING:
    from pathlib import Path

#: stands in for a file system that has no locks, or gives them to everybody
FLOCK = """
#include <errno.h>
int flock(int descriptor, int operation) { (void)descriptor; (void)operation; ANSWER; }
"""
ANSWERS = {
    "none": ("errno = ENOLCK; return -1", "No locks available"),
    "not implemented": ("errno = ENOSYS; return -1", "Function not implemented"),
    "for no folder": ("errno = EBADF; return -1", "Bad file descriptor"),
    "for everybody": ("return 0", "two processes were given the same lock"),
}


COMMANDS = {
    "run": ("run", "disk-present", "--fresh"),
    "atlas": ("atlas", "ghost-disk", "--no-fetch"),
    "image": ("image", "build", "debian", "--refresh"),
    "boot": ("boot", "q35"),
}


@pytest.mark.parametrize(
    ("command", "kind"), [*(("run", kind) for kind in ANSWERS), ("atlas", "none"), ("image", "none"), ("boot", "none")]
)
def test_it_is_refused_before_anything_runs(command: str, kind: str, tmp_path: Path) -> None:
    answer, words = ANSWERS[kind]
    done = subprocess.run(
        [sys.executable, "-m", "testbed", *COMMANDS[command]],
        cwd=tmp_path,
        env={
            **os.environ,
            "LD_PRELOAD": str(_library(tmp_path, answer)),
            "TESTBED_CACHE": str(cache_path("").absolute()),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert words in done.stderr
    assert "TESTBED_CACHE=" in done.stderr


def _library(folder: Path, answer: str) -> Path:
    """Return a library to be loaded first."""
    source, library = folder / "flock.c", folder / "flock.so"
    source.write_text(FLOCK.replace("ANSWER", answer))
    compile_c([source], library, flags=["-shared", "-fPIC"], doing="a file system without locks")
    return library

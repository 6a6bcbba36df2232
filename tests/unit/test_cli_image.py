"""`testbed image` for kernels that are no recipe: what is refused, and how it is named."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.unit.kernel_files import bzimage

if TYPE_CHECKING:
    from pathlib import Path


def image(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", "image", *arguments]
    env = {**os.environ, "COLUMNS": "250", "XDG_CACHE_HOME": str(folder / "cache")}
    env.pop("TESTBED_CACHE", None)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("path:linux", "{}/linux: there is no such file or folder"),
        ("path:bzImage,bzImage", "looking for modules of kernel 6.1.0-56-amd64 in {}/bzImage: no such folder"),
        ("path:text", "reading kernel {}/text: it is not an x86 Linux bzImage or vmlinux"),
        ("deb:text", "reading package {}/text: it is not a Debian package"),
        ("rpm:text", "reading package {}/text: it is not an RPM package"),
        ("rpm:", "image 'rpm:': wanted host, path:KERNEL[,MODULES]"),
        ("path", "image recipe 'path' does not exist"),
    ],
)
def test_what_cannot_be_used_exits_2(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "text").write_text("text")
    (tmp_path / "bzImage").write_bytes(bzimage())
    result = image(tmp_path, "build", source)
    assert result.returncode == 2
    assert words.format(tmp_path) in " ".join(result.stderr.split())


def test_an_image_that_was_never_built_cannot_be_removed(tmp_path: Path) -> None:
    result = image(tmp_path, "remove", "path:linux")
    assert result.returncode == 2
    assert f"image 'path:{tmp_path}/linux' does not exist" in " ".join(result.stderr.split())

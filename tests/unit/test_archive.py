"""Archives that somebody else may have made stay in their folder."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest

from testbed.host.archive import unpack_all

if TYPE_CHECKING:
    from pathlib import Path


def archive(*members: tuple[str, bytes, int]) -> tarfile.TarFile:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as writing:
        for name, content, mode in members:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            writing.addfile(entry, io.BytesIO(content))
    memory.seek(0)
    return tarfile.open(fileobj=memory)


def test_files_come_with_their_folders_and_modes(tmp_path: Path) -> None:
    unpack_all(archive(("a/reproduce.sh", b"#!", 0o777), ("state", b"x", 0o600)), tmp_path)
    assert (tmp_path / "a/reproduce.sh").read_bytes() == b"#!"
    assert (tmp_path / "a/reproduce.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["../victim", "a/../../victim", "/tmp/victim"])
def test_a_file_outside_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(ValueError, match="lies outside"):
        unpack_all(archive((name, b"x", 0o644)), inner)
    assert list(tmp_path.iterdir()) == [inner]


def test_links_are_left_out(tmp_path: Path) -> None:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as writing:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        writing.addfile(link)
    memory.seek(0)
    with tarfile.open(fileobj=memory) as reading:
        unpack_all(reading, tmp_path)
    assert list(tmp_path.iterdir()) == []

"""Files of a tar archive that somebody else may have made."""

from __future__ import annotations

import shutil
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tarfile
    from pathlib import Path


def unpack_all(archive: tarfile.TarFile, folder: Path) -> None:
    """Unpack the regular files of an archive below a folder; raise ValueError for one that would lie outside.

    Python's own filter for this came with 3.11.4 and 3.12; Debian 12 has 3.11.2.
    """
    for member in archive:
        name = PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise ValueError(f"{member.name!r} of the archive lies outside it")
        if member.isreg():
            unpack_file(archive, member, folder / name)


def unpack_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Write one regular file of an archive to a path, as a file of ours that nobody else may write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(member)
    if source is None:
        raise ValueError(f"{member.name!r} of the archive is not a file")
    with source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    path.chmod(member.mode & 0o755)

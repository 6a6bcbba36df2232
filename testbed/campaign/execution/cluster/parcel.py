"""Parcel: files that travel to workers by the hash of their content, each once, into the cache folder `received`.

blobs/DIGEST           the content of a file
parcels/DIGEST/NAME    files of one parcel under their names: hard links to blobs
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.cache import cache_folder
from testbed.model.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: bytes sent at a time
CHUNK = 8 << 20


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """Files by name, with the sha256 of their content."""

    files: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """Return the sha256 of the whole."""
        return hashlib.sha256(json.dumps(self.files).encode()).hexdigest()


def make_parcel(files: Mapping[str, Path]) -> tuple[Parcel, dict[str, Path]]:
    """Return the parcel of some files, and where each content is here."""
    named = {name: digest_of(path) for name, path in sorted(files.items())}
    return Parcel(files=tuple(named.items())), {named[name]: path for name, path in files.items()}


def digest_of(path: Path) -> str:
    """Return the sha256 of a file, read again only if it has changed."""
    status = path.stat()
    return _digest(path, status.st_size, status.st_mtime_ns)


def chunks(path: Path) -> Iterator[bytes]:
    """Yield a file's content piece by piece; an empty file is one empty piece."""
    with path.open("rb") as file:
        yield file.read(CHUNK)
        while piece := file.read(CHUNK):
            yield piece


def missing_blobs(digests: Iterable[str]) -> list[str]:
    """Return those of some contents that have not been received."""
    return [digest for digest in digests if not (_blobs() / digest).is_file()]


def receive_piece(token: str, digest: str, piece: bytes, *, last: bool) -> None:
    """Take a piece of a content; the last one is checked against the digest.

    `token` keeps two senders of the same content apart.
    """
    draft = _blobs() / f"tmp-{token}-{digest}"
    with draft.open("ab") as file:
        file.write(piece)
    if not last:
        return
    if hashlib.sha256(draft.read_bytes()).hexdigest() != digest:
        draft.unlink()
        raise BrokenError(f"receiving {digest[:12]}: the content does not match its hash")
    draft.replace(_blobs() / digest)


def unpacked(parcel: Parcel) -> Path:
    """Return the folder with the files of a parcel, all of whose contents have been received."""
    place = cache_folder("received/parcels") / parcel.digest
    if place.is_dir():
        return place
    draft = Path(tempfile.mkdtemp(prefix="tmp-", dir=place.parent))
    for name, digest in parcel.files:
        os.link(_blobs() / digest, draft / Path(name).name)
    try:
        draft.rename(place)
    except OSError:  # another worker of this host was quicker
        shutil.rmtree(draft)
    return place


def _blobs() -> Path:
    return cache_folder("received/blobs")


@lru_cache
def _digest(path: Path, size: int, time: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

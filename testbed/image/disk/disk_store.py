"""What was read of disk images, in the cache folder `disks`: by content, so that a disk is read once.

    KEY.json          a survey: what `systems_of` makes of the records is made again, the records are kept
    STATE.digest      the content digest of a file as it was: its path, size and times

A file that is damaged counts as not there. The least recently used go when there are too many.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.host.cache import cache_folder
from testbed.host.slots import core_count, slot_for_helper
from testbed.image.disk.content import content_digest
from testbed.image.disk.opened import OpenDisk, opened
from testbed.image.disk.reader import RECIPE, Want, read_disk, reader_digest
from testbed.image.disk.records import DiskRecords, ReadFile, Volume
from testbed.image.disk.survey import WANTS
from testbed.model.errors import InputError
from testbed.model.json_reader import parse_json, sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.image.disk.disk_name import DiskName
    from testbed.image.source import Progress
    from testbed.image.store import Image

#: raise it when what is kept changes its meaning
FORMAT = 1
_DIGEST = 64
#: files that are kept: a survey takes some MB, a digest next to nothing
_KEPT_FILES = 200


def survey_disk(name: DiskName, *, progress: Progress, refresh: bool = False) -> DiskRecords:
    """Return what a disk holds; it is read unless that was done before.

    Raises InputError for an image that cannot be read, as `opened` and `read_disk` do.
    """
    with opened(name) as disk:
        before = _states(disk)
        path = _folder() / f"{_key(disk, progress)}.json"
        if not refresh and (found := _kept(path)):
            return found
        records = _read(disk, WANTS, f"reading the file systems of {name.file.name} in a guest", progress)
        _check_unchanged(disk, before)
        _write(path, json.dumps(sealed({"format": FORMAT, **_as_json(records)})))
        return records


def disk_digest(name: DiskName, *, progress: Progress) -> str:
    """Return a digest of a disk's content and formats, found again as long as its files stay as they are."""
    with opened(name) as disk:
        return _digest(disk, _formats(disk), progress)


def read_files(name: DiskName, wants: Sequence[Want], *, progress: Progress) -> DiskRecords:
    """Return files of a disk; raise InputError for an image that cannot be read."""
    with opened(name) as disk:
        before = _states(disk)
        records = _read(disk, wants, f"extracting the kernel of {name.file.name} in a guest", progress)
        _check_unchanged(disk, before)
        return records


def _read(disk: OpenDisk, wants: Sequence[Want], doing: str, progress: Progress) -> DiskRecords:
    # the reader's own image is built as any other is, and there a kernel may come from a disk: imported when it is used
    from testbed.image.store import ensure_image  # noqa: PLC0415

    image: Image = ensure_image(RECIPE, progress=progress)
    with slot_for_helper(count=core_count(), on_wait=lambda: progress("waiting for a guest slot")):
        progress(doing)
        return read_disk(disk, wants, image)


def _check_unchanged(disk: OpenDisk, before: list[str]) -> None:
    if _states(disk) != before:
        raise InputError(
            f"disk image {disk.paths[0]}: was modified while it was being read",
            hint="stop whatever uses it, or pass a copy or a snapshot",
        )


def _folder() -> Path:
    return cache_folder("disks")


def _states(disk: OpenDisk) -> list[str]:
    """Return what tells a file that was written to from itself."""
    states = [(os.fstat(file.fileno()), file.name) for file in disk.files]
    return [
        f"{name} {each.st_dev} {each.st_ino} {each.st_size} {each.st_mtime_ns} {each.st_ctime_ns}"
        for each, name in states
    ]


def _key(disk: OpenDisk, progress: Progress) -> str:
    """Return what the survey of a disk is kept under."""
    request = "".join(want.line() for want in WANTS)
    return hashlib.sha256(
        f"{FORMAT}\0{_digest(disk, _formats(disk), progress)}\0{request}\0{reader_digest()}".encode()
    ).hexdigest()


def _formats(disk: OpenDisk) -> str:
    return " ".join(layer.format for layer in disk.layers)


def _digest(disk: OpenDisk, formats: str, progress: Progress) -> str:
    """Return the content digest of a disk, kept for as long as its files stay as they are."""
    state = hashlib.sha256("\0".join([formats, *_states(disk)]).encode(errors="surrogateescape")).hexdigest()
    path = _folder() / f"{state}.digest"
    with contextlib.suppress(OSError):
        kept = path.read_text(encoding="ascii", errors="replace")
        os.utime(path)
        if len(kept) == _DIGEST and kept.isalnum():
            return kept
    held = sum(os.fstat(file.fileno()).st_blocks * 512 for file in disk.files)
    progress(f"reading through {disk.paths[0].name} ({held / 1e6:.0f} MB)")
    digest = content_digest(disk.files, formats)
    _write(path, digest)
    return digest


def _write(path: Path, text: str) -> None:
    """Write a file beside its place and move it there; raise OSError that names the place."""
    descriptor, draft = tempfile.mkstemp(prefix="tmp-", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 (a descriptor)
            file.write(text)
        Path(draft).replace(path)
    except OSError as error:
        Path(draft).unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    for old in sorted(path.parent.iterdir(), key=_used)[:-_KEPT_FILES]:
        old.unlink(missing_ok=True)


def _used(path: Path) -> float:
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
        return path.stat().st_mtime
    return 0.0


def _kept(path: Path) -> DiskRecords | None:
    try:
        said = unsealed(parse_json(path.read_bytes()))
        os.utime(path)
        return _from_json(said) if said["format"] == FORMAT else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _as_json(records: DiskRecords) -> dict[str, Any]:
    return {
        "size": records.size,
        "table": records.table,
        "volumes": [
            {
                **{key: value for key, value in vars(volume).items() if key not in ("files", "folders")},
                "folders": sorted(volume.folders),
                "files": {
                    path: [file.size, base64.b85encode(file.content).decode("ascii"), file.error]
                    for path, file in volume.files.items()
                },
            }
            for volume in records.volumes
        ],
    }


def _from_json(said: dict[str, Any]) -> DiskRecords:
    volumes = []
    for each in said["volumes"]:
        files = {
            path: ReadFile(size=size, content=base64.b85decode(content), error=error)
            for path, (size, content, error) in each["files"].items()
        }
        volumes.append(Volume(**{**each, "files": files, "folders": set(each["folders"])}))
    return DiskRecords(size=said["size"], table=said["table"], volumes=tuple(volumes))

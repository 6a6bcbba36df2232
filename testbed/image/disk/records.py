"""What the guest has read of a disk, as its program wrote it (guest-images/read-disk.c).

The guest has mounted file systems that anybody may have made, so it may be anybody's by then: every length is checked,
and a name is never a path of this host.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from mmap import mmap

from testbed.model.errors import InputError
from testbed.model.printable import harmless

_HEADER = struct.Struct("<cIQQ")
_MAX_NAME = 4096
#: types of volumes whose content is encrypted
ENCRYPTED = ("luks", "bitlocker")
_MAX_RECORDS = 200_000
Bytes = bytes | mmap


class DamagedError(ValueError):
    """The records end too early, or make no sense."""


@dataclass(frozen=True, kw_only=True)
class ReadFile:
    """A file of a volume."""

    size: int  #: bytes, of which the content may be the first
    content: bytes
    error: str = ""  #: why it could not be read


@dataclass(kw_only=True)
class Volume:
    """A file system, or what else is on a partition."""

    name: str
    size: int  #: bytes
    type: str = ""  #: `ext4`, `lvm`, `luks` …; empty: unknown
    uuid: str = ""
    label: str = ""
    root: str = ""  #: the subvolume that is its root
    error: str = ""  #: why it could not be mounted
    files: dict[str, ReadFile] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class DiskRecords:
    """Everything that was read of a disk."""

    size: int  #: bytes
    table: str  #: `gpt`, `mbr`, or empty: a file system without partitions
    volumes: tuple[Volume, ...]

    def volume(self, name: str) -> Volume:
        """Return the volume of this name; raise InputError if it is not there, or could not be read."""
        volume = next((each for each in self.volumes if each.name == name), None)
        if volume is None or volume.error:
            raise InputError(
                f"disk image: volume {harmless(name)} cannot be read: {volume.error if volume else 'gone'}"
            )
        return volume


def parse_records(data: Bytes) -> DiskRecords:
    """Return what the records say; raise DamagedError unless they are whole."""
    size, table = 0, ""
    volumes: list[Volume] = []
    at = 0
    for _ in range(_MAX_RECORDS):
        kind, name, length, content, at = _record(data, at)
        if kind == b"E":
            return DiskRecords(size=size, table=table, volumes=tuple(volumes))
        if kind == b"T":
            size, table = length, content.decode("ascii", "replace")
        elif kind == b"V":
            volumes.append(_volume(name, length, content))
        elif volumes:
            _add(volumes[-1], kind, name, length, content)
        else:
            raise DamagedError("a file without a volume")
    raise DamagedError("too many records")


def last_volume(data: Bytes) -> str:
    """Return the volume that was being read when the records ended too early; empty if none was."""
    at, volume = 0, ""
    try:
        while True:
            kind, name, _, _, at = _record(data, at)
            volume = name if kind == b"V" else volume
    except DamagedError:
        return volume


def _record(data: Bytes, at: int) -> tuple[bytes, str, int, bytes, int]:
    """Return the record at a place, and where the next one begins."""
    if at + _HEADER.size > len(data):
        raise DamagedError("they are truncated")
    kind, name_length, size, length = _HEADER.unpack_from(data, at)
    at += _HEADER.size
    if kind not in (b"T", b"V", b"F", b"L", b"D", b"X", b"E") or name_length > _MAX_NAME:
        raise DamagedError("they are malformed")
    end = at + name_length + length
    if end > len(data):
        raise DamagedError("they are truncated")
    name = data[at : at + name_length].decode("utf-8", "surrogateescape")
    return kind, name, size, data[at + name_length : end], end


def _volume(name: str, size: int, content: bytes) -> Volume:
    pairs = (line.partition("=") for line in content.decode("utf-8", "replace").split("\n"))
    said = {key: value for key, _, value in pairs}
    return Volume(
        name=name,
        size=size,
        type=said.get("type", ""),
        uuid=said.get("uuid", ""),
        label=said.get("label", ""),
        root=said.get("root", ""),
        error=said.get("error", ""),
    )


def _add(volume: Volume, kind: bytes, name: str, size: int, content: bytes) -> None:
    path = name.lstrip("/")
    if kind == b"F":
        volume.files[path] = ReadFile(size=size, content=content)
    elif kind == b"X":
        volume.files[path] = ReadFile(size=size, content=b"", error=content.decode("utf-8", "replace"))
    elif kind == b"L":
        volume.links[path] = content.decode("utf-8", "surrogateescape")
    else:
        volume.folders.add(path)

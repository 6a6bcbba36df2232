"""A cpio archive in the newc format, the one the kernel unpacks at boot (buffer-format.rst)."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of an archive; owner is root, time is zero."""

    mode: int  #: type and permissions, as in stat(2)
    data: bytes = b""  #: a file's content or a symlink's target
    device: tuple[int, int] = (0, 0)  #: major and minor number of a device node


#: path without a leading slash -> what is there
Tree = dict[str, Entry]


def directory(permissions: int = 0o755) -> Entry:
    """Return a directory."""
    return Entry(mode=stat.S_IFDIR | permissions)


def regular(data: bytes, permissions: int = 0o644) -> Entry:
    """Return a regular file."""
    return Entry(mode=stat.S_IFREG | permissions, data=data)


def symlink(target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(mode=stat.S_IFLNK | 0o777, data=target.encode())


def character_device(major: int, minor: int) -> Entry:
    """Return a character device node that only root may use."""
    return Entry(mode=stat.S_IFCHR | 0o600, device=(major, minor))


def pack(tree: Mapping[str, Entry]) -> bytes:
    """Return the archive of a tree: sorted, parent directories added, the same bytes every time."""
    whole = {**_parents(tree), **tree}
    # sorted by parts, so that a directory stands before everything in it
    names = sorted(whole, key=lambda name: PurePosixPath(name).parts)
    members = [_member(name, whole[name], inode) for inode, name in enumerate(names, start=1)]
    return b"".join(members) + _member("TRAILER!!!", Entry(mode=0), 0)


def _parents(tree: Mapping[str, Entry]) -> Tree:
    folders = {str(parent) for name in tree for parent in PurePosixPath(name).parents}
    return {folder: directory() for folder in folders - {"."}}


def _member(name: str, entry: Entry, inode: int) -> bytes:
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    raw = name.encode() + b"\0"
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(raw), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _aligned(header + raw) + _aligned(entry.data)


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)

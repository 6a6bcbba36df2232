"""An RPM package file: what its header says, and its unpacking.

The format is that of rpm.org's "Package Format" (V3 and V4): a lead of 96 bytes, a signature, padding to 8 bytes, the
header, the payload. Signature and header are an index of (tag, type, offset, count) and a store, big-endian.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from testbed.image.package_file import PackageFile, damaged, extract, foreign, read_start
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"\xed\xab\xee\xdb"
LEAD = 96
HEADER_MAGIC = b"\x8e\xad\xe8\x01"
STRING = 6
TAGS = {"name": 1000, "version": 1001, "release": 1002, "architecture": 1022}
#: a kernel's header lists some ten thousand files
MAX_HEADER = 64 << 20
#: what the packages of one kernel add to its name; Fedora and RHEL split it over several
PARTS = ("", "-core", "-modules-core", "-modules", "-modules-extra")


def describe(path: Path) -> PackageFile:
    """Read the header of a package; raise InputError if it is none, damaged, or of another architecture."""
    start = read_start(path, MAX_HEADER)
    if not start.startswith(MAGIC):
        raise InputError(f"reading package {path}: it is not an RPM package", hint="give a .rpm file")
    try:
        fields = read_header(start)
    except (ValueError, KeyError, struct.error) as error:
        raise damaged(path, f"its header cannot be read ({error})") from None
    if fields["architecture"] not in ("x86_64", "noarch"):
        raise foreign(path, fields["architecture"])
    version = f"{fields['version']}-{fields['release']}"
    parts = _other_parts(fields["name"])
    names = (f"{part}-{version}.{fields['architecture']}.rpm" for part in parts)
    return PackageFile(
        path=path,
        name=fields["name"],
        version=version,
        architecture=fields["architecture"],
        parts=parts,
        beside=tuple(path.with_name(name) for name in names if path.with_name(name).is_file()),
    )


def unpack(path: Path, folder: Path) -> None:
    """Unpack a package into a folder; raise InputError if it is damaged."""
    extract(path, folder)


def read_header(package: bytes) -> dict[str, str]:
    """Return the fields of TAGS from a package's first bytes; raise ValueError, KeyError or struct.error if garbled."""
    signature_end = _header_end(package, LEAD)
    start = signature_end + -signature_end % 8
    end = _header_end(package, start)
    (count,) = struct.unpack_from(">I", package, start + 8)
    store = start + 16 + 16 * count
    offsets = {}
    for entry in range(start + 16, store, 16):
        tag, kind, offset, _ = struct.unpack_from(">IIII", package, entry)
        if kind == STRING:
            offsets[tag] = offset
    return {name: _string(package[store + offsets[tag] : end]) for name, tag in TAGS.items()}


def _header_end(package: bytes, start: int) -> int:
    if package[start : start + 4] != HEADER_MAGIC:
        raise ValueError("no header where one should be")
    count, size = struct.unpack_from(">II", package, start + 8)
    end = int(start + 16 + 16 * count + size)
    if end > len(package):
        raise ValueError("it ends early")
    return end


def _string(store: bytes) -> str:
    text, end, _ = store.partition(b"\0")
    if not end or not text:
        raise ValueError("a text without end")
    return text.decode()


def _other_parts(name: str) -> tuple[str, ...]:
    """Return the packages that may hold the rest of a kernel: for `kernel-core`, `kernel-modules` and so on."""
    own = max((part for part in PARTS if name.endswith(part)), key=len)
    stem = name.removesuffix(own)
    return tuple(stem + part for part in PARTS if part != own)

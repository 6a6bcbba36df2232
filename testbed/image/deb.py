"""A Debian package file: what its control file says, and its unpacking (deb(5))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.host.control_file import dependencies, read_fields
from testbed.image.package_file import PackageFile, damaged, extract, foreign, read_archive, read_start
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

MAGIC = b"!<arch>\ndebian-binary"
#: packages that hold parts of one kernel; Debian 7.x and Ubuntu split it over several
PART = re.compile(r"linux-(image|binary|modules|modules-extra|base)-")


def describe(path: Path) -> PackageFile:
    """Read the control file of a package; raise InputError if it is none, damaged, or of another architecture."""
    if read_start(path, len(MAGIC)) != MAGIC:
        raise InputError(f"reading package {path}: it is not a Debian package", hint="give a .deb file")
    packed = read_archive(path, "-x", "-O", "-f", path, "control.tar*")
    fields = read_fields(read_archive(path, "-x", "-O", "-f", "-", "*control", stdin=packed).decode(errors="replace"))
    try:
        name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
    except KeyError as field:
        raise damaged(path, f"its control file has no field {field.args[0]}") from None
    if architecture not in ("amd64", "all"):
        raise foreign(path, architecture)
    parts = tuple(needed for needed in dependencies(fields.get("Depends", "")) if PART.match(needed))
    beside = (_find_beside(path, part, version) for part in parts)
    return PackageFile(
        path=path,
        name=name,
        version=version,
        architecture=architecture,
        parts=parts,
        beside=tuple(filter(None, beside)),
    )


def unpack(path: Path, folder: Path) -> None:
    """Unpack a package into a folder; raise InputError if it is damaged."""
    extract(path, folder, stdin=read_archive(path, "-x", "-O", "-f", path, "data.tar*"))


def _find_beside(path: Path, name: str, version: str) -> Path | None:
    """Return the file of another package in the same folder: the one of that version, or the only one."""
    files = sorted(path.parent.glob(f"{name}_*.deb"))
    # a file's name has no epoch
    same = [file for file in files if file.name.split("_")[1] == version.rpartition(":")[2]]
    return next(iter(same or files), None) if same or len(files) == 1 else None

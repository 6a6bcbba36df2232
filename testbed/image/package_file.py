"""A package file of a distribution's, `.deb` or `.rpm`: what it says of itself, and its unpacking.

bsdtar (libarchive) reads both formats with every compression and is in every distribution; dpkg-deb and rpm2cpio are
each in half of them.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.host.apt import dependencies, read_fields
from testbed.host.tools import find_tool, run_tool
from testbed.image import rpm
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from pathlib import Path

ARCHIVE_TOOL = "bsdtar"
#: how a Debian package begins (deb(5))
DEB_MAGIC = b"!<arch>\ndebian-binary"
#: Debian packages that hold parts of one kernel; Debian 7.x and Ubuntu split it over several
DEB_PART = re.compile(r"linux-(image|binary|modules|modules-extra|base)-")
#: what the RPM packages of one kernel add to its name; Fedora and RHEL split it over several
RPM_PARTS = ("", "-core", "-modules-core", "-modules", "-modules-extra")


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """One package file, and where the other parts of its kernel are."""

    path: Path
    name: str
    version: str
    architecture: str  #: in the distribution's words
    parts: tuple[str, ...]  #: packages that hold other parts of the same kernel
    beside: tuple[Path, ...]  #: the files of such packages in the same folder

    @property
    def label(self) -> str:
        """Return what a person calls it."""
        return f"{self.name} {self.version}"


def describe_deb(path: Path) -> PackageFile:
    """Read a Debian package's control file; raise InputError for none, a damaged one, or another architecture's."""
    if _read_start(path, len(DEB_MAGIC)) != DEB_MAGIC:
        raise InputError(f"reading package {path}: it is not a Debian package", hint="give a .deb file")
    packed = _read_archive(path, "-x", "-O", "-f", path, "control.tar*")
    fields = read_fields(_read_archive(path, "-x", "-O", "-f", "-", "*control", stdin=packed).decode(errors="replace"))
    try:
        name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
    except KeyError as field:
        raise _damaged(path, f"its control file has no field {field.args[0]}") from None
    if architecture not in ("amd64", "all"):
        raise _foreign(path, architecture)
    parts = tuple(needed for needed in dependencies(fields.get("Depends", "")) if DEB_PART.match(needed))
    beside = (_find_deb_beside(path, part, version) for part in parts)
    return PackageFile(
        path=path,
        name=name,
        version=version,
        architecture=architecture,
        parts=parts,
        beside=tuple(filter(None, beside)),
    )


def describe_rpm(path: Path) -> PackageFile:
    """Read an RPM package's header; raise InputError for none, a damaged one, or another architecture's."""
    start = _read_start(path, rpm.MAX_HEADER)
    if not start.startswith(rpm.MAGIC):
        raise InputError(f"reading package {path}: it is not an RPM package", hint="give a .rpm file")
    try:
        fields = rpm.read_header(start)
    except (ValueError, KeyError, struct.error) as error:
        raise _damaged(path, f"its header cannot be read ({error})") from None
    if fields["architecture"] not in ("x86_64", "noarch"):
        raise _foreign(path, fields["architecture"])
    version = f"{fields['version']}-{fields['release']}"
    parts = _other_rpm_parts(fields["name"])
    files = (path.with_name(f"{part}-{version}.{fields['architecture']}.rpm") for part in parts)
    return PackageFile(
        path=path,
        name=fields["name"],
        version=version,
        architecture=fields["architecture"],
        parts=parts,
        beside=tuple(file for file in files if file.is_file()),
    )


def unpack_deb(path: Path, folder: Path) -> None:
    """Unpack a Debian package into a folder; raise InputError if it is damaged."""
    _extract(path, folder, stdin=_read_archive(path, "-x", "-O", "-f", path, "data.tar*"))


def unpack_rpm(path: Path, folder: Path) -> None:
    """Unpack an RPM package into a folder; raise InputError if it is damaged."""
    _extract(path, folder)


def _find_deb_beside(path: Path, name: str, version: str) -> Path | None:
    """Return the file of another package in the same folder: the one of that version, or the only one."""
    files = sorted(path.parent.glob(f"{name}_*.deb"))
    # a file's name has no epoch
    same = [file for file in files if file.name.split("_")[1] == version.rpartition(":")[2]]
    return next(iter(same or files), None) if same or len(files) == 1 else None


def _other_rpm_parts(name: str) -> tuple[str, ...]:
    """Return the packages that may hold the rest of a kernel: for `kernel-core`, `kernel-modules` and so on."""
    own = max((part for part in RPM_PARTS if name.endswith(part)), key=len)
    stem = name.removesuffix(own)
    return tuple(stem + part for part in RPM_PARTS if part != own)


def _read_start(path: Path, size: int) -> bytes:
    """Return the first bytes of a package file; raise InputError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise InputError(f"reading package {path}: {error.strerror}") from None


def _read_archive(path: Path, *arguments: str | Path, stdin: bytes | None = None) -> bytes:
    """Run bsdtar on a package file or, through `stdin`, on an archive in it; raise InputError if that is damaged."""
    find_tool(ARCHIVE_TOOL)  # a missing program is the host's fault, not the package's
    try:
        return run_tool([ARCHIVE_TOOL, *arguments], doing=f"reading package {path}", stdin=stdin)
    except BedError as error:
        if "No space left" in error.message:
            raise
        raise _damaged(path, _first_words(error.message)) from None


def _first_words(message: str) -> str:
    """Return the first line of bsdtar's message; its last says only that there were more."""
    words = re.sub(rf".*?{ARCHIVE_TOOL} ended with [^:]*: ", "", message, count=1, flags=re.DOTALL)
    return words.splitlines()[0].removeprefix(f"{ARCHIVE_TOOL}: ")


def _extract(path: Path, folder: Path, *, stdin: bytes | None = None) -> None:
    """Unpack a package's payload: the file itself, or the archive in `stdin`, as files of the caller's."""
    folder.mkdir(parents=True, exist_ok=True)
    source = "-" if stdin is not None else path
    _read_archive(path, "-x", "-f", source, "-C", folder, "--no-same-owner", "--no-same-permissions", stdin=stdin)


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"reading package {path}: it is damaged or truncated: {why}", hint="copy or download it again")


def _foreign(path: Path, architecture: str) -> InputError:
    return InputError(
        f"reading package {path}: it is for {architecture}", hint="give the package for 64-bit x86 (amd64, x86_64)"
    )

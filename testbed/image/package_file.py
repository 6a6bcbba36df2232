"""A package file of a distribution's, `.deb` or `.rpm`: what it says of itself, and the reading of it with bsdtar.

bsdtar (libarchive) reads both formats with every compression and is in every distribution; dpkg-deb and rpm2cpio are
each in half of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.host.tools import find_tool, run_tool
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from pathlib import Path

ARCHIVE_TOOL = "bsdtar"


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


def read_start(path: Path, size: int) -> bytes:
    """Return the first bytes of a package file; raise InputError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise InputError(f"reading package {path}: {error.strerror}") from None


def read_archive(path: Path, *arguments: str | Path, stdin: bytes | None = None) -> bytes:
    """Run bsdtar on a package file or, through `stdin`, on an archive in it; raise InputError if that is damaged."""
    find_tool(ARCHIVE_TOOL)  # a missing program is the host's fault, not the package's
    try:
        return run_tool([ARCHIVE_TOOL, *arguments], doing=f"reading package {path}", stdin=stdin)
    except BedError as error:
        if "No space left" in error.message:
            raise
        raise damaged(path, _first_words(error.message)) from None


def _first_words(message: str) -> str:
    """Return the first line of what bsdtar said; its last says only that there were more."""
    said = re.sub(rf".*?{ARCHIVE_TOOL} ended with [^:]*: ", "", message, count=1, flags=re.DOTALL)
    return said.splitlines()[0].removeprefix(f"{ARCHIVE_TOOL}: ")


def extract(path: Path, folder: Path, *, stdin: bytes | None = None) -> None:
    """Unpack a package's payload: the file itself, or the archive in `stdin`, as files of the caller's."""
    folder.mkdir(parents=True, exist_ok=True)
    source = "-" if stdin is not None else path
    read_archive(path, "-x", "-f", source, "-C", folder, "--no-same-owner", "--no-same-permissions", stdin=stdin)


def damaged(path: Path, why: str) -> InputError:
    """Build the error for a file that ends too early or makes no sense."""
    return InputError(f"reading package {path}: it is damaged or cut off: {why}", hint="copy or download it again")


def foreign(path: Path, architecture: str) -> InputError:
    """Build the error for a package of another architecture."""
    return InputError(
        f"reading package {path}: it is for {architecture}", hint="give the package for 64-bit x86 (amd64, x86_64)"
    )

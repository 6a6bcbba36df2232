"""A disk image as it is written: `disk:FILE[,format=FORMAT][,kernel=RELEASE][,system=NUMBER][,backing=yes]`.

The format is what is said, or what the file's name says. It is never guessed from the content: a raw disk whose guest
has written the header of another format into its first sector would have the host open whatever that header names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from testbed.model.errors import InputError

KIND = "disk"
FORMATS = ("raw", "qcow2", "vmdk", "vdi", "vhdx")
_SUFFIXES = {".raw": "raw", ".img": "raw", **{f".{name}": name for name in FORMATS}}
_OPTION = re.compile(r",(?P<name>format|kernel|system|backing)=(?P<value>[^,]+)")
#: what follows `disk`
PATTERN = r":[^,]+(,(format|kernel|system|backing)=[^,]+)*"
FORM = "disk:FILE[,format=FORMAT][,kernel=RELEASE][,system=NUMBER][,backing=yes]"


@dataclass(frozen=True, kw_only=True)
class DiskName:
    """A disk image, and what is wanted of it."""

    file: Path
    format: str = ""  #: empty: the file's name says it
    kernel: str = ""  #: a release; empty: the one that boots by default
    system: int | None = None  #: which of several systems, from 1; None: there is one
    backing: bool = False  #: whether the files that its header names may be opened

    def __str__(self) -> str:
        given = {
            "format": self.format,
            "kernel": self.kernel,
            "system": str(self.system or ""),
            "backing": "yes" if self.backing else "",
        }
        return f"{KIND}:{self.file}" + "".join(f",{name}={value}" for name, value in given.items() if value)

    def at(self, file: str) -> DiskName:
        """Return the same of a file by another path."""
        return replace(self, file=Path(file))

    def known_format(self) -> str:
        """Return the image's format; raise InputError if neither it nor the file's name is known."""
        if found := self.format or _SUFFIXES.get(self.file.suffix.lower(), ""):
            return found
        raise InputError(
            f"disk image {self.file}: its name does not tell its format",
            hint=f"name the format: {KIND}:{self.file},format=FORMAT, one of {', '.join(FORMATS)}",
        )


def is_disk(text: str) -> bool:
    """Tell whether the name of an image is that of a disk."""
    return text.startswith(f"{KIND}:")


def read_disk_name(text: str) -> DiskName:
    """Read `disk:…`; raise ValueError, saying what is wanted, for what is none."""
    if not re.fullmatch(KIND + PATTERN, text):
        raise ValueError(f"wanted {FORM}")
    file, *_ = text.removeprefix(f"{KIND}:").split(",")
    pairs = [(match["name"], match["value"]) for match in _OPTION.finditer(text)]
    given = dict(pairs)
    if len(given) < len(pairs):
        raise ValueError("an option is given twice")
    return DiskName(
        file=Path(file),
        format=_one_of(given.get("format", ""), "format", FORMATS),
        kernel=given.get("kernel", ""),
        system=_number(given.get("system", "")),
        backing=_one_of(given.get("backing", "no"), "backing", ("yes", "no")) == "yes",
    )


def _one_of(value: str, name: str, known: tuple[str, ...]) -> str:
    if value and value not in known:
        raise ValueError(f"{name} is one of {', '.join(known)}, not {value!r}")
    return value


def _number(text: str) -> int | None:
    if text and not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise ValueError(f"system is a number from 1, not {text!r}")
    return int(text) if text else None

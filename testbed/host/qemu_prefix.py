"""A QEMU prefix: the folder that a distribution's QEMU was unpacked into, and what must be said for it to work there.

Debian's QEMU looks for firmware, option ROMs and modules below /usr wherever its binary is. A module of another build
ends it: 10.0 aborted in `module_load_dso` as soon as it was asked for its device types and found those of 7.2.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRAM = "qemu-system-x86_64"
_BINARY = Path("usr/bin")
_DATA = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
_MODULES = "usr/lib/x86_64-linux-gnu/qemu"
_LOADER = "ld-linux-x86-64.so.2"


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """A folder with a `usr` of its own."""

    root: Path

    @property
    def binary(self) -> Path:
        """Return the QEMU binary."""
        return self.root / _BINARY / PROGRAM

    @property
    def data_folders(self) -> tuple[Path, ...]:
        """Return where its firmware and option ROMs are, for `-L`."""
        return tuple(self.root / name for name in _DATA if (self.root / name).is_dir())

    @property
    def library_folders(self) -> tuple[Path, ...]:
        """Return where its own libraries are; none if it uses the host's."""
        return tuple(self.root / name for name in _LIBRARIES if (self.root / name).is_dir()) if self._loader() else ()

    def command(self, binary: Path) -> tuple[str, ...]:
        """Return the words that start it, before any options of a machine."""
        data = (word for folder in self.data_folders for word in ("-L", str(folder)))
        return (*self._environment(), *self._loading(), str(binary), *data)

    def _environment(self) -> tuple[str, ...]:
        modules = self.root / _MODULES
        return (str(find_tool("env")), f"QEMU_MODULE_DIR={modules}") if modules.is_dir() else ()

    def _loading(self) -> tuple[str, ...]:
        """Return its own dynamic loader, which alone can load a libc newer than the host's."""
        loader = self._loader()
        return (str(loader), "--library-path", ":".join(map(str, self.library_folders))) if loader else ()

    def _loader(self) -> Path | None:
        return next((path for name in _LIBRARIES if (path := self.root / name / _LOADER).is_file()), None)

    def missing_libraries(self) -> tuple[str, ...]:
        """Return the libraries that its binary needs and does not find."""
        loading = self._loading()
        command = [*(loading or (str(find_tool("ldd")),)), *(["--list"] if loading else []), str(self.binary)]
        done = subprocess.run(
            command, env={"LC_ALL": "C"}, capture_output=True, text=True, errors="replace", check=False
        )
        return parse_missing(done.stdout + done.stderr)


def prefix_of(binary: Path) -> Prefix | None:
    """Return the prefix a binary was unpacked into; None for one that is installed or finds its files by itself."""
    root = binary.resolve().parent.parent.parent
    inside = binary.resolve().parent == root / _BINARY and root != Path("/")
    prefix = Prefix(root=root)
    return prefix if inside and prefix.data_folders else None


def start_command(binary: Path, prefix: Prefix | None) -> tuple[str, ...]:
    """Return the words that start a QEMU binary."""
    return prefix.command(binary) if prefix else (str(binary),)


def parse_missing(text: str) -> tuple[str, ...]:
    """Read what ldd or the loader printed: missing libraries, and versions that a library lacks."""
    absent = re.findall(r"^\s*(\S+) => not found", text, flags=re.MULTILINE)
    absent += re.findall(r"^\S+: error while loading shared libraries: (\S+):", text, flags=re.MULTILINE)
    older = re.findall(r"(\S+): version `([^']+)' not found", text)
    lacking = (f"{Path(library).name} with {version}" for library, version in older)
    return tuple(dict.fromkeys([*absent, *lacking]))


def package_of(library: str, packages: Iterable[str]) -> str | None:
    """Return the package that by its name holds a library: `libglib-2.0.so.0` in `libglib2.0-0` (Debian policy 8.1)."""
    stem, _, version = library.partition(" ")[0].partition(".so.")
    wanted = _letters(stem + version)
    return min((name for name in packages if _letters(name).startswith(wanted)), key=len, default=None)


def _letters(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())

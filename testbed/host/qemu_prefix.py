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
#: the loader's own name since glibc 2.34, and before (2.31: Debian 11), when the first was a link to the second
_LOADERS = ("ld-linux-x86-64.so.2", "ld-[0-9]*.so")
#: where an unpacked package keeps libraries that only its own find, by a path that here leads to the host's
_PRIVATE = ("pulseaudio", "ceph")


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
        if self._loader() is None:
            return ()
        folders = [self.root / name / sub for name in _LIBRARIES for sub in ("", *_PRIVATE)]
        return tuple(folder for folder in folders if folder.is_dir())

    def command(self, binary: Path) -> tuple[str, ...]:
        """Return the words that start it, before any options of a machine."""
        data = (word for folder in self.data_folders for word in ("-L", str(folder)))
        return (*self._environment(), *self._loading(), str(binary), *data)

    def _environment(self) -> tuple[str, ...]:
        modules = self.root / _MODULES
        return (str(find_tool("env")), f"QEMU_MODULE_DIR={modules}") if modules.is_dir() else ()

    def _loading(self) -> tuple[str, ...]:
        """Return its own dynamic loader, which alone can load its libc, and finds nothing by the host's cache."""
        loader = self._loader()
        words = ("--inhibit-cache", "--library-path", ":".join(map(str, self.library_folders)))
        return (str(loader), *words) if loader else ()

    def _loader(self) -> Path | None:
        """Return the loader itself, not a link to it: an absolute one leads to the host's."""
        found = (path for name in _LIBRARIES for pattern in _LOADERS for path in (self.root / name).glob(pattern))
        return next((path for path in found if path.is_file() and not path.is_symlink()), None)

    def missing_libraries(self) -> tuple[str, ...]:
        """Return the libraries that its binary needs and does not find; beside its own libc it may use no other's."""
        loading = self._loading()
        command = [*(loading or (str(find_tool("ldd")),)), *(["--list"] if loading else []), str(self.binary)]
        done = subprocess.run(
            command, env={"LC_ALL": "C"}, capture_output=True, text=True, errors="replace", check=False
        )
        missing = parse_missing(done.stdout + done.stderr)
        return tuple(dict.fromkeys([*missing, *(parse_strangers(done.stdout, self.root) if loading else ())]))


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


def parse_strangers(text: str, root: Path) -> tuple[str, ...]:
    """Read what the loader printed: libraries that it found outside a root, which are another libc's."""
    found = re.findall(r"^\s*(\S+) => (/\S.*) \(0x", text, flags=re.MULTILINE)
    return tuple(library for library, path in found if not Path(path).is_relative_to(root))


def package_of(library: str, packages: Iterable[str]) -> str | None:
    """Return the package that by its name holds a library: `libglib-2.0.so.0` in `libglib2.0-0` (Debian policy 8.1)."""
    stem, _, version = library.partition(" ")[0].partition(".so.")
    wanted = _letters(stem + version)
    return min((name for name in packages if _letters(name).startswith(wanted)), key=len, default=None)


def _letters(text: str) -> str:
    return "".join(char for char in text.lower() if char.isalnum())

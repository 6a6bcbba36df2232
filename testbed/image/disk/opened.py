"""A disk image that is open: its files, for reading alone, and the block nodes QEMU makes of them.

QEMU gets the open files and no path: it needs no right of its own to read them, and could not open them for writing.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed.image.disk.disk_name import FORMATS
from testbed.image.disk.header import Header, read_header
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from testbed.image.disk.disk_name import DiskName

_MAX_CHAIN = 32
_SECTOR = 512
#: where the header of a qcow2 has the size (docs/interop/qcow2.txt)
_QCOW2_SIZE = 24
#: formats whose node takes a `backing`
_LAYERED = ("qcow2", "vmdk")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One image of a chain, and the file its data are in if that is another."""

    path: Path
    format: str
    file: BinaryIO
    data: BinaryIO | None = None
    data_path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class OpenDisk:
    """A disk image with all the files it consists of, the topmost layer first."""

    layers: tuple[Layer, ...]

    @property
    def files(self) -> list[BinaryIO]:
        """Return every file."""
        return [file for layer in self.layers for file in (layer.file, layer.data) if file]

    @property
    def paths(self) -> list[Path]:
        """Return the path of every file."""
        return [path for layer in self.layers for path in (layer.path, layer.data_path) if path]

    @property
    def size(self) -> int | None:
        """Return the bytes that a guest sees, None for formats of which only QEMU knows."""
        top = self.layers[0]
        if top.format == "raw":
            return -(-top.path.stat().st_size // _SECTOR) * _SECTOR
        if top.format == "qcow2":
            top.file.seek(_QCOW2_SIZE)
            return int.from_bytes(top.file.read(8), "big")
        return None

    def arguments(self) -> list[str]:
        """Return the QEMU options that hand it the open files."""
        sets = enumerate(self.files, start=1)
        return [part for number, file in sets for part in ("-add-fd", f"fd={file.fileno()},set={number}")]

    def node(self) -> dict[str, Any]:
        """Return the block node, read-only with all below it; no node opens by itself what its header names."""
        numbers = {id(file): number for number, file in enumerate(self.files, start=1)}
        below: dict[str, Any] | None = None
        for layer in reversed(self.layers):
            node = {"driver": layer.format, "read-only": True, "file": _file_node(numbers[id(layer.file)])}
            if layer.format in _LAYERED:
                node["backing"] = below
            if layer.data:
                node["data-file"] = _file_node(numbers[id(layer.data)])
            below = node
        assert below, "a disk has a layer"
        return below


def _file_node(number: int) -> dict[str, Any]:
    return {"driver": "file", "filename": f"/dev/fdset/{number}", "read-only": True}


@contextlib.contextmanager
def opened(name: DiskName) -> Iterator[OpenDisk]:
    """Open a disk image, and what its header names if that is allowed.

    Raises InputError if a file cannot be read, is not of its format, is encrypted, or needs another one.
    """
    with contextlib.ExitStack() as stack:
        layers: list[Layer] = []
        path: Path | None = name.file
        image_format = name.known_format()
        while path is not None:
            if len(layers) == _MAX_CHAIN:
                raise InputError(f"disk image {name.file}: has more than {_MAX_CHAIN} backing files")
            file = _open(path, stack)
            header = read_header(file, image_format, source=str(path))
            _check(header, path, name)
            data_path = beside(path, header.data_file) if header.data_file else None
            data = _open(data_path, stack) if data_path else None
            layers.append(Layer(path=path, format=image_format, file=file, data=data, data_path=data_path))
            path = beside(path, header.backing) if header.backing else None
            image_format = _backing_format(header, path) if path else ""
        yield OpenDisk(layers=tuple(layers))


def beside(path: Path, name: str) -> Path:
    """Return the file that an image's header names; raise InputError for a name that is no path."""
    if ":" in name.partition("/")[0]:
        hint = "convert it to a single file: qemu-img convert"
        raise InputError(f"disk image {path}: names {name!r}, which is not a file", hint=hint)
    return path.parent / name


def _backing_format(header: Header, path: Path) -> str:
    if header.backing_format in FORMATS:
        return header.backing_format
    raise InputError(
        f"disk image {path}: the image above it does not record its format",
        hint="record it there: qemu-img rebase -u -F FORMAT -b BACKING IMAGE",
    )


def _check(header: Header, path: Path, name: DiskName) -> None:
    """Raise InputError for an image that is encrypted, or needs files that may not be opened."""
    if header.encrypted:
        raise InputError(f"disk image {path}: is encrypted", hint="decrypt it: qemu-img convert with its secret")
    needed = [each for each in (header.backing, header.data_file) if each]
    if needed and not name.backing:
        raise InputError(
            f"disk image {path}: its header names another file, {needed[0]!r}, which the test bed does not open",
            hint=f"if you trust its source: {name},backing=yes; or convert it to a single file: qemu-img convert",
        )


def _open(path: Path, stack: contextlib.ExitStack) -> BinaryIO:
    try:
        if not path.is_file():
            raise InputError(f"disk image {path}: {'is not a file' if path.exists() else 'there is no such file'}")
        return stack.enter_context(path.open("rb", buffering=0))
    except OSError as error:
        reason = "permission denied" if error.errno == errno.EACCES else error.strerror
        raise InputError(f"disk image {path}: {reason}") from None

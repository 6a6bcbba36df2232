"""What the header of an image names beside itself: a backing file, a data file, extents; and whether it is encrypted.

Only these few fields are read on the host; everything else of the format is left to the contained QEMU. A name in a
header is a path of whoever made the image, so nothing is opened because of it unless the user says so.

Sources: QEMU's docs/interop/qcow2.txt; VMware's Virtual Disk Format 5.0, section 4.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.errors import InputError

if TYPE_CHECKING:
    from typing import BinaryIO

_QCOW2_MAGIC = b"QFI\xfb"
_EXTERNAL_DATA = 1 << 2
_BACKING_FORMAT, _DATA_FILE = 0xE2792ACA, 0x44415441
_MAX_EXTENSIONS = 64
_VMDK_MAGIC = b"KDMV"
_VMDK_TEXT = b"# Disk DescriptorFile"
_MAX_DESCRIPTOR = 1 << 16
_MAX_OFFSET = 1 << 62
#: how each format begins, for a hint to who has said another
_MAGICS = {
    "qcow2": _QCOW2_MAGIC,
    "vmdk": _VMDK_MAGIC,
    "vhdx": b"vhdxfile",
    "vdi": b"<<< ",
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a header names."""

    backing: str = ""  #: the file below it
    backing_format: str = ""
    data_file: str = ""  #: the file that holds its data
    encrypted: bool = False


def read_header(file: BinaryIO, image_format: str, *, source: str) -> Header:
    """Return what the header of an image names; raise InputError if the image is not of that format."""
    start = _at(file, 0, 1 << 12)
    if image_format == "raw":
        likely = next((name for name, magic in _MAGICS.items() if start.startswith(magic)), "")
        if likely:
            raise InputError(
                f"disk image {source}: is treated as raw, but begins like a {likely} image",
                hint=f"name its format: format={likely}; a raw disk that begins like this cannot boot",
            )
        return Header()
    if not start.startswith(_MAGICS[image_format]) and not (image_format == "vmdk" and start.startswith(_VMDK_TEXT)):
        raise InputError(f"disk image {source}: does not begin like a {image_format} image", hint="say format=FORMAT")
    try:
        if image_format == "qcow2":
            return _qcow2(start, file)
        return _vmdk(start, file, source) if image_format == "vmdk" else Header()
    except (struct.error, ValueError):
        raise InputError(f"disk image {source}: its {image_format} header is damaged") from None


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    if offset >= _MAX_OFFSET:
        raise ValueError("no file is that long")
    file.seek(offset)
    return file.read(size)


def _qcow2(start: bytes, file: BinaryIO) -> Header:
    (version, name_at, name_size) = struct.unpack_from(">IQI", start, 4)
    (crypt,) = struct.unpack_from(">I", start, 32)
    features, header_size = struct.unpack_from(">Q20xI", start, 72) if version >= 3 else (0, 72)
    name = _at(file, name_at, name_size).decode("utf-8", "surrogateescape") if name_at and name_size <= 1023 else ""
    texts = _extensions(start, header_size)
    return Header(
        backing=name,
        backing_format=texts.get(_BACKING_FORMAT, ""),
        data_file=texts.get(_DATA_FILE, "(no name)") if features & _EXTERNAL_DATA else "",
        encrypted=crypt != 0,
    )


def _extensions(start: bytes, at: int) -> dict[int, str]:
    """Return the texts of the header's extensions that hold one."""
    texts: dict[int, str] = {}
    for _ in range(_MAX_EXTENSIONS):
        if at + 8 > len(start):
            break
        kind, size = struct.unpack_from(">II", start, at)
        if kind == 0:
            break
        if kind in (_BACKING_FORMAT, _DATA_FILE):
            texts[kind] = start[at + 8 : at + 8 + size].decode("utf-8", "surrogateescape")
        at += 8 + (size + 7) // 8 * 8
    return texts


def _vmdk(start: bytes, file: BinaryIO, source: str) -> Header:
    """Read the header of a VMDK in one file; raise InputError for one whose data are in other files."""
    capacity, _, descriptor_at, descriptor_size = (
        struct.unpack_from("<QQQQ", start, 12) if len(start) > 44 else (0,) * 4
    )
    if start.startswith(_VMDK_TEXT) or not capacity:
        raise InputError(
            f"disk image {source}: describes a disk in other files, which the test bed does not open",
            hint="convert it to a single file: qemu-img convert -O qcow2 IN OUT",
        )
    text = _at(file, descriptor_at * 512, min(descriptor_size * 512, _MAX_DESCRIPTOR)).decode("latin-1")
    parent = re.search(r'^\s*parentFileNameHint\s*=\s*"([^"\n]{0,1000})"', text, re.MULTILINE)
    return Header(backing=parent[1] if parent else "")

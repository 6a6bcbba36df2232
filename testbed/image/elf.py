"""An ELF file's headers: little-endian 64-bit x86 only, all that a guest of the test bed runs."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PT_LOAD = 1
PT_INTERP = 3
PT_NOTE = 4
EM_X86_64 = 62
#: PF_W of p_flags
_WRITABLE = 2
#: e_machine of what else people have kernels for
MACHINES = {3: "i386", 21: "ppc64", 22: "s390", 40: "arm", 62: "32-bit x86-64", 183: "arm64", 243: "riscv"}


@dataclass(frozen=True, kw_only=True)
class Note:
    """One ELF note (elf(5))."""

    name: bytes
    type: int


def is_elf64(content: bytes) -> bool:
    """Tell whether the bytes begin like an x86-64 ELF file."""
    return (
        len(content) >= 64
        and content[:6] == b"\x7fELF\x02\x01"
        and struct.unpack_from("<H", content, 18)[0] == EM_X86_64
    )


def elf_machine(content: bytes) -> int | None:
    """Return for which machine an ELF file of any kind is, or None if this is none."""
    if len(content) < 20 or content[:4] != b"\x7fELF":
        return None
    return int.from_bytes(content[18:20], "big" if content[5] == 2 else "little")


def segments(content: bytes, wanted: int) -> Iterator[bytes]:
    """Yield the content of the segments of one type; nothing if this is no x86-64 ELF file or it is cut off."""
    for kind, where, length in _program_headers(content):
        if kind == wanted:
            yield content[where : where + length]


def writable_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the physical address and the content of each segment that is loaded and may be written."""
    for kind, flags, where, address, length in _headers(content):
        if kind == PT_LOAD and flags & _WRITABLE:
            yield address, content[where : where + length]


def program_size(content: bytes) -> int:
    """Return where the last segment of an x86-64 ELF file ends: beyond its end, if the file is cut off."""
    return max([64, *(where + length for _, where, length in _program_headers(content))])


def without_sections(content: bytes) -> bytes:
    """Return what of an x86-64 ELF program is needed to run it: no sections, symbols or debug information."""
    program = bytearray(content[: program_size(content)])
    struct.pack_into("<Q", program, 40, 0)  # e_shoff
    struct.pack_into("<HHH", program, 58, 0, 0, 0)  # e_shentsize, e_shnum, e_shstrndx
    return bytes(program)


def _program_headers(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield type, offset and length in the file of each segment."""
    return ((kind, where, length) for kind, _, where, _, length in _headers(content))


def _headers(content: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield type, flags, offset, physical address and length in the file of each segment."""
    if not is_elf64(content):
        return
    offset, size, count = *struct.unpack_from("<Q", content, 32), *struct.unpack_from("<HH", content, 54)
    for start in (offset + index * size for index in range(count)):
        if size < 56 or start + 56 > len(content):
            return
        kind, flags, where, _, address, length = struct.unpack_from("<IIQQQQ", content, start)
        yield kind, flags, where, address, length


def notes(content: bytes) -> Iterator[Note]:
    """Yield every note of the PT_NOTE segments."""
    for segment in segments(content, PT_NOTE):
        yield from _notes(segment)


def _notes(data: bytes) -> Iterator[Note]:
    at = 0
    while at + 12 <= len(data):
        name_size, description_size, kind = struct.unpack_from("<III", data, at)
        yield Note(name=data[at + 12 : at + 12 + name_size].rstrip(b"\0"), type=kind)
        at += 12 + _padded(name_size) + _padded(description_size)


def _padded(size: int) -> int:
    return (size + 3) & ~3

"""The segments of an ELF kernel: which are data, and where they are loaded."""

from __future__ import annotations

import struct

import pytest

from testbed.image.elf import PT_LOAD, PT_NOTE, writable_segments

_READ, _WRITE, _EXECUTE = 4, 2, 1


def elf(*segments: tuple[int, int, int, bytes]) -> bytes:
    """Return an x86-64 ELF file with segments of type, flags, physical address and content."""
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    programs, bodies = b"", b""
    start = 64 + 56 * len(segments)
    for kind, flags, address, content in segments:
        where = start + len(bodies)
        virtual = 0xFFFFFFFF80000000 + address
        programs += struct.pack("<IIQQQQQQ", kind, flags, where, virtual, address, len(content), len(content), 4096)
        bodies += content
    return header + programs + bodies


def test_data_are_what_is_loaded_and_may_be_written() -> None:
    kernel = elf(
        (PT_LOAD, _READ | _EXECUTE, 0x1000000, b"text"),
        (PT_LOAD, _READ | _WRITE, 0x2A00000, b"data"),
        (PT_NOTE, _READ | _WRITE, 0x2B00000, b"note"),
        (PT_LOAD, _READ | _WRITE | _EXECUTE, 0x3000000, b"init"),
    )
    assert list(writable_segments(kernel)) == [(0x2A00000, b"data"), (0x3000000, b"init")]


@pytest.mark.parametrize("content", [b"", b"MZ" + bytes(100), elf()[:50]])
def test_what_is_no_elf_file_has_none(content: bytes) -> None:
    assert list(writable_segments(content)) == []

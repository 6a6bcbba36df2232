"""The header of an RPM package.

The format is that of rpm.org's "Package Format" (V3 and V4): a lead of 96 bytes, a signature, padding to 8 bytes, the
header, the payload. Signature and header are an index of (tag, type, offset, count) and a store, big-endian.
"""

from __future__ import annotations

import struct

MAGIC = b"\xed\xab\xee\xdb"
LEAD = 96
HEADER_MAGIC = b"\x8e\xad\xe8\x01"
STRING = 6
TAGS = {"name": 1000, "version": 1001, "release": 1002, "architecture": 1022}
#: a kernel's header lists some ten thousand files
MAX_HEADER = 64 << 20


def read_header(package: bytes) -> dict[str, str]:
    """Return the fields of TAGS from a package's first bytes; raise ValueError, KeyError or struct.error if garbled."""
    signature_end = _header_end(package, LEAD)
    start = signature_end + -signature_end % 8
    end = _header_end(package, start)
    (count,) = struct.unpack_from(">I", package, start + 8)
    store = start + 16 + 16 * count
    offsets = {}
    for entry in range(start + 16, store, 16):
        tag, kind, offset, _ = struct.unpack_from(">IIII", package, entry)
        if kind == STRING:
            offsets[tag] = offset
    return {name: _string(package[store + offsets[tag] : end]) for name, tag in TAGS.items()}


def _header_end(package: bytes, start: int) -> int:
    if package[start : start + 4] != HEADER_MAGIC:
        raise ValueError("no header where one is expected")
    count, size = struct.unpack_from(">II", package, start + 8)
    end = int(start + 16 + 16 * count + size)
    if end > len(package):
        raise ValueError("it is truncated")
    return end


def _string(store: bytes) -> str:
    text, end, _ = store.partition(b"\0")
    if not end or not text:
        raise ValueError("an unterminated string")
    return text.decode()

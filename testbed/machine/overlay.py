"""An empty qcow2 image, which a machine lays over a disk that it must not write to.

It names no file below it: QEMU is told that by the block node. Source: QEMU's docs/interop/qcow2.txt.
"""

from __future__ import annotations

import struct

_CLUSTER_BITS = 16
_CLUSTER = 1 << _CLUSTER_BITS
#: bytes of the disk that an entry of the first-level table stands for
_COVERED = _CLUSTER * _CLUSTER // 8
#: clusters whose 16-bit reference counts are in one cluster
_COUNTED = _CLUSTER // 2


def empty_overlay(size: int) -> bytes:
    """Return a qcow2 image of a disk of `size` bytes without any data."""
    entries = -(-size // _COVERED)
    level1 = -(-entries * 8 // _CLUSTER)
    used = 3 + level1
    assert used <= _COUNTED, "no disk is that large"
    # header; table of reference counts, with one block; that block; first-level table
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        *(b"QFI\xfb", 3, 0, 0, _CLUSTER_BITS, size, 0),
        *(entries, 3 * _CLUSTER, _CLUSTER, 1, 0, 0),
        *(0, 0, 0, 4, 104),
    )
    table = struct.pack(">Q", 2 * _CLUSTER)
    counts = struct.pack(">H", 1) * used
    return b"".join(part.ljust(_CLUSTER, b"\0") for part in (header, table, counts)) + bytes(level1 * _CLUSTER)

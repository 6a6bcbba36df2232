"""What the hardware says of a guest access that left the guest: AMD's #NPF error code, Intel's exit qualification.

Neither tells user from kernel. AMD64 APM volume 2, 15.25.6: the U bit is of the *nested* walk, whose accesses count as
user accesses unless a feature of the CPU overrides that, so it is set for kernel and process alike. An EPT violation's
bit 9 is of the page, and only on newer CPUs.
"""

from __future__ import annotations

from testbed.kvmtrace.event import EPT_VIOLATION, NPF
from testbed.model.mmio_record import Direction

_NPF_BITS = (
    (0, "P"),
    (1, "W"),
    (2, "U"),
    (3, "RSVD"),
    (4, "F"),
    (5, "PK"),
    (31, "RMP"),
    (32, "GUEST_FINAL"),
    (33, "GUEST_PAGE"),
)
_EPT_BITS = ((0, "read"), (1, "write"), (2, "fetch"), (7, "GVA valid"), (8, "final"))

_WRITE = 1 << 1
_RESERVED = 1 << 3
_FETCH = 1 << 4
_EPT_WRITE = 1 << 1
_EPT_FETCH = 1 << 2


def find_direction(reason: str, info1: int | None) -> Direction | None:
    """Return whether the access was a read or a write; None for a fetch and where the exit does not tell."""
    if info1 is None or is_fetch(reason, info1) or reason not in (NPF, EPT_VIOLATION):
        return None
    write = info1 & (_WRITE if reason == NPF else _EPT_WRITE)
    return Direction.WRITE if write else Direction.READ


def is_fetch(reason: str, info1: int | None) -> bool:
    """Return whether the CPU was fetching an instruction."""
    if info1 is None:
        return False
    return bool(info1 & _FETCH) if reason == NPF else reason == EPT_VIOLATION and bool(info1 & _EPT_FETCH)


def is_mmio(reason: str, info1: int | None) -> bool:
    """Return whether KVM had marked the page as MMIO: reserved bits on AMD, a misconfigured entry on Intel."""
    if reason == NPF:
        return info1 is not None and bool(info1 & _RESERVED)
    return reason == "EPT_MISCONFIG"


def bit_names(reason: str, info1: int | None) -> tuple[str, ...]:
    """Return the names of the bits that are set, lowest first."""
    if info1 is None or reason not in (NPF, EPT_VIOLATION):
        return ()
    return tuple(name for bit, name in (_NPF_BITS if reason == NPF else _EPT_BITS) if info1 >> bit & 1)

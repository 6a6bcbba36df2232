"""A fault: an exit by which a guest's access left the guest, and what its error code and its rip say of that access.

Neither AMD's #NPF error code nor Intel's exit qualification tells user from kernel. AMD64 APM volume 2, 15.25.6: the U
bit is of the *nested* walk, whose accesses count as user accesses unless a feature of the CPU overrides that, so it is
set for kernel and process alike. An EPT violation's bit 9 is of the page, and only on newer CPUs. The bits of SEV-SNP:
the same volume, 15.36.10; Linux arch/x86/include/asm/kvm_host.h, PFERR_GUEST_*.
"""

from __future__ import annotations

from dataclasses import dataclass

from testbed.kvmtrace.event import EPT_MISCONFIG, EPT_VIOLATION, NPF
from testbed.model.mmio_record import Direction, Mode

#: the exits that a guest's access to an address makes
FAULTS = frozenset((NPF, EPT_VIOLATION, EPT_MISCONFIG))

_NPF_BITS = (
    (0, "P"),
    (1, "W"),
    (2, "U"),
    (3, "RSVD"),
    (4, "F"),
    (5, "PK"),
    (6, "SS"),
    (31, "RMP"),
    (32, "GUEST_FINAL"),
    (33, "GUEST_PAGE"),
    (34, "ENC"),
    (35, "SIZEM"),
    (36, "VMPL"),
    (37, "SSS"),
)
#: the reverse map refused the access: its page's owner or state, its size, or the privilege level in the guest
SNP_BITS = frozenset(("RMP", "SIZEM", "VMPL"))
_EPT_BITS = ((0, "read"), (1, "write"), (2, "fetch"), (7, "GVA valid"), (8, "final"))

_WRITE = 1 << 1
_RESERVED = 1 << 3
_FETCH = 1 << 4
_EPT_WRITE = 1 << 1
_EPT_FETCH = 1 << 2

_UPPER_HALF = 0xFF00_0000_0000_0000  # the lowest kernel address with 57-bit addresses; 48-bit ones are higher
_LOWER_HALF_END = 0x0100_0000_0000_0000
_VSYSCALL = range(0xFFFF_FFFF_FF60_0000, 0xFFFF_FFFF_FF60_1000)  # the one page up there that user code runs


@dataclass(slots=True)
class Fault:
    """One exit of a guest's access, until it is known what became of it."""

    line: int
    seconds: float | None
    reason: str
    rip: int
    info1: int | None  #: AMD's error code, or Intel's exit qualification
    gpa: int | None
    unmapped: int = 0  #: how often the host had unmapped guest memory by then

    @property
    def direction(self) -> Direction | None:
        """Return whether the access was a read or a write; None for a fetch and where the exit does not tell."""
        if self.info1 is None or self.fetch or self.reason not in (NPF, EPT_VIOLATION):
            return None
        write = self.info1 & (_WRITE if self.reason == NPF else _EPT_WRITE)
        return Direction.WRITE if write else Direction.READ

    @property
    def fetch(self) -> bool:
        """Return whether the CPU was fetching an instruction."""
        if self.info1 is None:
            return False
        if self.reason == NPF:
            return bool(self.info1 & _FETCH)
        return self.reason == EPT_VIOLATION and bool(self.info1 & _EPT_FETCH)

    @property
    def mmio(self) -> bool:
        """Return whether KVM had marked the page as MMIO: reserved bits on AMD, a misconfigured entry on Intel."""
        if self.reason == NPF:
            return self.info1 is not None and bool(self.info1 & _RESERVED)
        return self.reason == EPT_MISCONFIG

    @property
    def bits(self) -> tuple[str, ...]:
        """Return the names of the bits that are set, lowest first."""
        if self.info1 is None or self.reason not in (NPF, EPT_VIOLATION):
            return ()
        names = _NPF_BITS if self.reason == NPF else _EPT_BITS
        return tuple(name for bit, name in names if self.info1 >> bit & 1)


def is_kernel(rip: int) -> bool:
    """Return whether only the kernel of a 64-bit guest runs at this address."""
    return rip >= _UPPER_HALF and rip not in _VSYSCALL


def mode_of(rip: int | None, *, runs_kernel: bool) -> Mode | None:
    """Return the mode of an instruction; None if the address leaves it open.

    `runs_kernel`: the same vCPU was seen in the upper half, so that what runs in the lower half is no kernel. Without
    that it may as well be firmware, a boot loader or a 32-bit kernel.
    """
    if rip is None or rip in _VSYSCALL:
        return None
    if is_kernel(rip):
        return Mode.KERNEL
    return Mode.USER if runs_kernel and rip < _LOWER_HALF_END else None

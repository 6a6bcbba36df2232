"""User or kernel, as far as the address of an instruction tells."""

from __future__ import annotations

from testbed.model.mmio_record import Mode

_UPPER_HALF = 0xFF00_0000_0000_0000  # the lowest kernel address with 57-bit addresses; 48-bit ones are higher
_LOWER_HALF_END = 0x0100_0000_0000_0000
_VSYSCALL = range(0xFFFF_FFFF_FF60_0000, 0xFFFF_FFFF_FF60_1000)  # the one page up there that user code runs


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

"""Which machine types start an ELF kernel through its PVH entry."""

from __future__ import annotations

import re

_VERSION = re.compile(r"pc-(?:q35|i440fx)-([0-9]{1,3})\.")
#: QEMU 4.0 brought it; older machine types refuse ("linux kernel too old to load a ram disk", seen with 7.2)
_FIRST = 4


def starts_elf(machine_type: str) -> bool:
    """Return whether the machine starts a vmlinux; one without a version is as new as its QEMU."""
    match = _VERSION.match(machine_type)
    return match is None or int(match[1]) >= _FIRST

"""A kernel's data in the machine's RAM, compared with the file it was loaded from.

A running kernel changes its data at once. Data that are as in the file are those of a kernel that has yet to run: QEMU
has put them there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.image.elf import writable_segments

if TYPE_CHECKING:
    from testbed.machine.launch import Machine

PAGE = 4096


@dataclass(frozen=True, kw_only=True)
class KernelData:
    """How many pages of a kernel's data there are, and how many of them differ from the file."""

    pages: int
    changed: int
    evidence: str

    def __str__(self) -> str:
        return f"{self.changed} of {self.pages} pages differ from the file"


async def compare_kernel_data(machine: Machine) -> KernelData | None:
    """Compare an ELF kernel's first writable segment, which lies where the file says, with the RAM.

    None for a bzImage: it unpacks itself, to wherever it likes; and for one that a disk's loader has started.
    """
    if machine.boot.kernel is None:
        return None
    found = next(writable_segments(Path(machine.boot.kernel).read_bytes()), None)
    if found is None:
        return None
    address, wanted = found
    copy = Path(machine.folder / "kernel-data")
    try:
        arguments = {"val": address, "size": len(wanted), "filename": str(copy)}
        await machine.qmp.execute_unrepeated("pmemsave", arguments)
        ram = copy.read_bytes()
    finally:
        copy.unlink(missing_ok=True)
    places = range(0, len(wanted), PAGE)
    changed = sum(ram[at : at + PAGE] != wanted[at : at + PAGE] for at in places)
    return KernelData(pages=len(places), changed=changed, evidence=machine.qmp.last_reply)

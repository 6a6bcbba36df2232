"""KernelStart: whether a machine starts the unpacked ELF kernel of an image by its PVH entry, or its bzImage.

PVH skips the real-mode setup and the decompressor, which halves a boot. It is not the same everywhere: QEMU keeps an
ELF kernel's segments and writes them into the RAM at every reset (hw/core/loader.c, rom_reset), and to QEMU a wake-up
from suspend to RAM is one. A bzImage lies in fw_cfg, from where a firmware fetches it once.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from testbed.model.errors import InputError

if TYPE_CHECKING:
    from testbed.image.store import Image
    from testbed.model.spec import MachineSpec

_VERSION = re.compile(r"pc-(?:q35|i440fx)-([0-9]{1,3})\.")
#: QEMU 4.0 brought it; older machine types refuse ("linux kernel too old to load a ram disk", seen with 7.2)
_FIRST = 4


def starts_elf(machine_type: str) -> bool:
    """Return whether the machine starts a vmlinux; one without a version is as new as its QEMU."""
    match = _VERSION.match(machine_type)
    return match is None or int(match[1]) >= _FIRST


def startable(image: Image, spec: MachineSpec, *, sleeps: bool = False) -> Image:
    """Return the image with the one kernel file that the machine starts.

    If the machine leaves it open, that of a guest that `sleeps` is the bzImage.

    Raises InputError if the machine asks for a way to start the kernel which it or the image lacks.
    """
    if spec.start == "pvh":
        return _by_pvh(image, spec)
    wanted = "start=bzimage" if spec.start == "bzimage" else "firmware=ovmf" if spec.firmware == "ovmf" else ""
    if wanted and image.bzimage is None:
        raise InputError(f"{wanted}: image {image.name} has only a vmlinux", hint="give the bzImage of the same build")
    needs_bzimage = wanted or sleeps or not starts_elf(spec.machine_type)
    return replace(image, vmlinux=None) if needs_bzimage and image.bzimage else image


def _by_pvh(image: Image, spec: MachineSpec) -> Image:
    if image.vmlinux is None:
        raise InputError(
            f"start=pvh: kernel {image.kernel} of image {image.name} has no PVH entry (CONFIG_PVH)",
            hint="leave start out, or pass -p start=bzimage",
        )
    if not starts_elf(spec.machine_type):
        raise InputError(
            f"start=pvh: {spec.machine_type} cannot boot an ELF kernel, only machine types from {_FIRST}.0 on can",
            hint="leave start out, or pass -p start=bzimage",
        )
    return image

"""What a guest needs to run machines of its own: a QEMU with its firmware, and the images they boot."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.host.qemu import find_qemu
from testbed.image.files import HostFile
from testbed.model.errors import BedError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testbed.host.qemu import Qemu

_PROGRAM = PurePosixPath("/usr/bin/qemu-system-x86_64")
_FIRMWARE_FOLDER = PurePosixPath("/usr/share/qemu")
#: SeaBIOS; the ROM that lets it see the local APIC under KVM; those that start bzImage, Multiboot and PVH kernels
_FIRMWARE = ("bios-256k.bin", "kvmvapic.bin", "linuxboot_dma.bin", "multiboot_dma.bin", "pvh.bin")
#: what network cards do not start without, where the QEMU has it
_NETWORK_ROMS = ("efi-virtio.rom", "efi-e1000.rom", "efi-e1000e.rom")
_IMAGES = PurePosixPath("/images")


def qemu_files(name: str) -> Iterator[HostFile]:
    """Yield the files of a QEMU; its libraries come along as those of any program do.

    Raises InputError for one that needs a C library of its own.
    """
    qemu = find_qemu(name)
    if qemu.prefix and qemu.prefix.library_folders:
        raise InputError(
            f"QEMU {name}: needs the C library that came with it, so it cannot run in a guest of another system",
            hint="take one that was built for this host",
        )
    yield HostFile(host=str(qemu.path), guest=str(_PROGRAM), mode="0755")
    for file in _FIRMWARE:
        yield HostFile(host=str(qemu.firmware(file)), guest=str(_FIRMWARE_FOLDER / file))
    for file in _NETWORK_ROMS:
        with contextlib.suppress(BedError):
            yield HostFile(host=str(qemu.firmware(file)), guest=str(_FIRMWARE_FOLDER / file))


def qemu_in_guest(name: str) -> Qemu:
    """Return that QEMU as it runs in the guest: with the same features, started there."""
    return replace(find_qemu(name), copy=(str(_PROGRAM), "-L", str(_FIRMWARE_FOLDER)))


def image_files(name: str, kernel: Path, initramfs: Path) -> Iterator[HostFile]:
    """Yield the files of an image a machine in the guest can boot."""
    for host, place in zip((kernel, initramfs), image_places(name), strict=True):
        yield HostFile(host=str(host), guest=str(place), mode="0644")


def image_places(name: str) -> tuple[PurePosixPath, PurePosixPath]:
    """Return where kernel and initramfs of an image are in the guest."""
    folder = _IMAGES / name.replace("/", "-")
    return folder / "kernel", folder / "initramfs"

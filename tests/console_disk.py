"""A small disk whose GRUB starts the test bed's own kernel without its agent: a login on ttyS0 within seconds.

What boots from it is the initramfs of the image `debian`, with a script in place of its init: busybox's getty and login
on the serial line. With `noisy` on the command line the kernel prints twenty messages a second, before the login too.
Its GRUB is that of the Debian disk. It boots in a tenth of the time that a Debian takes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from testbed.host.packages import find_program
from testbed.host.tools import run_tool
from testbed.image.cpio import directory, pack, regular
from testbed.image.store import ensure_image
from tests.bootable_disks import bootable_disk, install_loader
from tests.disks import FIRST, SECTOR, ext4, mbr_disk

if TYPE_CHECKING:
    from pathlib import Path

#: of root, on this disk and nowhere else
PASSWORD = "hush-hush"
#: crypt(3), SHA-512
_HASH = "$6$testbed$XIoXuE8I5fXZpPhZbdGC2bcR6SqCn8MlwwMAv3v3dMtNiC2SMh/oBr.kdyz7RZLTgCCC5mb8H1zZKAIuPQTaf/"
_MENU = """\
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=5
menuentry 'busybox' {
	linux /vmlinuz rdinit=/console console=ttyS0 quiet
	initrd /initramfs
}
"""
_INIT = """\
#!/bin/sh
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
hostname customer
cat /sys/bus/pci/devices/*/modalias | while read -r kind; do modprobe -q "$kind"; done
if grep -q noisy /proc/cmdline; then
	dmesg -n 8
	echo on >/proc/sys/kernel/printk_devkmsg
	while :; do echo '<3>noise: the quick brown fox jumps over the lazy dog' >/dev/kmsg; usleep 50000; done &
fi
while :; do setsid getty -L 115200 ttyS0 vt100; done
"""


def console_disk(folder: Path) -> Path:
    """Return the disk, made in a folder; skip the test where it cannot be made."""
    if find_program("debugfs") is None:
        pytest.skip("this host has no debugfs")
    debian = bootable_disk()
    image = ensure_image("debian", progress=lambda _: None)
    assert image.bzimage
    dump = f"rdump /boot/grub/i386-pc {folder}"
    run_tool(["debugfs", "-R", dump, f"{debian}?offset={FIRST}"], doing="reading a disk's GRUB")
    files = {f"boot/grub/i386-pc/{path.name}": path.read_bytes() for path in (folder / "i386-pc").iterdir()}
    files |= {"boot/grub/grub.cfg": _MENU.encode(), "vmlinuz": image.bzimage.read_bytes()}
    files["initramfs"] = image.initramfs.read_bytes() + _console()
    size = sum(map(len, files.values()))
    system = ext4(folder, files, mib=32 + (size >> 20) * 5 // 4)
    disk = mbr_disk(folder / "console.raw", [system])
    with debian.open("rb") as file:
        first = file.read(FIRST)
    install_loader(disk, first[:SECTOR], first[SECTOR:])
    return disk


def login_file(folder: Path, *lines: str) -> str:
    """Write what --login reads, for nobody else to read."""
    file = folder / "login"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write("\n".join(lines))
    return str(file)


def _console() -> bytes:
    return pack(
        {
            "console": regular(_INIT.encode(), 0o755),
            "etc": directory(),
            "etc/passwd": regular(f"root:{_HASH}:0:0:root:/:/bin/sh\n".encode()),
        }
    )

"""Disks with a whole Debian that its own loader starts, under SeaBIOS and OVMF alike, and whose console is ttyS0.

One disk for both: GRUB's BIOS image stands between the partition table and the first partition, its UEFI image in an
EFI system partition, where firmware looks for that of a removable disk. Made without being root, as `debian_disks`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from testbed.host.apt_sources import running_codename, stanzas_for
from testbed.host.packages import find_program
from testbed.host.tools import run_tool
from tests.debian_disks import LEFT_OUT, kept_disk
from tests.disks import SECTOR, mbr_disk

if TYPE_CHECKING:
    from pathlib import Path

#: raise it whenever the same wishes would give another disk
FORMAT = 1
_PACKAGES = (
    *("systemd-sysv", "udev", "kmod", "dbus", "initramfs-tools", "zstd", "linux-image-amd64", "pciutils"),
    *("grub-pc-bin", "grub-efi-amd64-bin", "grub-common", "dosfstools", "mtools"),
)
#: of root; made for these disks and for nothing else
PASSWORD = "Xq7-schwarzwald"
#: who needs no password
FREE_USER = "guest"
_CONSOLE = "console=tty0 console=ttyS0,115200"
#: as Debian's grub-mkconfig writes it, as far as this disk needs it
_MENU = """\
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=5
set default=0
menuentry 'Debian GNU/Linux' --class debian --class gnu-linux $menuentry_id_option 'gnulinux-simple' {{
	insmod gzio
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	insmod part_msdos
	insmod ext2
	search --no-floppy --label --set=root root
	echo	'Loading Linux ...'
	linux	/vmlinuz root=LABEL=root ro {console} {quiet}
	echo	'Loading initial ramdisk ...'
	initrd	/initrd.img
}}
menuentry 'Debian GNU/Linux, without its root' {{
	search --no-floppy --label --set=root root
	linux	/vmlinuz root=LABEL=nowhere ro {console} rootdelay=1
	initrd	/initrd.img
}}
"""
_EARLY = "search --no-floppy --label --set=root root\nset prefix=($root)/boot/grub\n"
_MODULES = "part_msdos ext2 normal linux search search_label serial terminal gzio echo test"
_CONFIGURE = """\
echo 'LABEL=root / ext4 rw 0 1' > "$1/etc/fstab"
echo customer > "$1/etc/hostname"
echo 'root:{password}' | chroot "$1" chpasswd
chroot "$1" useradd --create-home --shell /bin/bash {user}
chroot "$1" passwd --quiet --delete {user}
mkdir -p "$1/boot/grub" "$1/esp/EFI/BOOT"
cp -r "$1/usr/lib/grub/i386-pc" "$1/usr/lib/grub/x86_64-efi" "$1/boot/grub/"
cp "{scratch}/grub.cfg" "$1/boot/grub/grub.cfg"
cp "{scratch}/early.cfg" "$1/esp/early.cfg"
chroot "$1" grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o /esp/core.img biosdisk part_msdos ext2
chroot "$1" grub-mkimage -O x86_64-efi -p /boot/grub -c /esp/early.cfg -o /esp/EFI/BOOT/BOOTX64.EFI {modules}
chroot "$1" sh -ec 'truncate -s 34M /esp.fs; mkfs.vfat -F 32 /esp.fs; mcopy -s -i /esp.fs /esp/EFI ::/'
mv "$1/esp.fs" "$1/esp/core.img" "{scratch}/"
cp "$1/usr/lib/grub/i386-pc/boot.img" "{scratch}/"
rm -r "$1/esp"
"""


def bootable_disk(suite: str = "", *, quiet: bool = True) -> Path:
    """Return a disk that a Debian boots from, made if need be: minutes, and the network; skip the test without them."""
    for program in ("mmdebstrap", "mkfs.ext4"):
        if find_program(program) is None:
            pytest.skip(f"this host has no {program}")
    suite = suite or running_codename()
    sources = "\n".join(stanzas_for(suite if suite != running_codename() else None))
    menu = _MENU.format(console=_CONSOLE, quiet="quiet" if quiet else "")
    wishes = json.dumps([FORMAT, suite, _PACKAGES, LEFT_OUT, sources, menu, _EARLY, _MODULES, _CONFIGURE])
    return kept_disk(suite, wishes, lambda scratch: _make(scratch, suite, sources, menu))


def _make(scratch: Path, suite: str, sources: str, menu: str) -> None:
    (scratch / "apt.sources").write_text(sources)
    (scratch / "grub.cfg").write_text(menu)
    (scratch / "early.cfg").write_text(_EARLY)
    system, tree = scratch / "root.fs", scratch / "tree"
    with system.open("wb") as file:
        file.truncate(1536 << 20)
    hooks = [
        "set -e\n" + _CONFIGURE.format(scratch=scratch, password=PASSWORD, user=FREE_USER, modules=_MODULES),
        # without what is mounted there meanwhile
        f'cp -ax "$1" "{tree}" && mkfs.ext4 -q -L root -d "{tree}" "{system}" && rm -rf "{tree}"',
    ]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=null", f"--include={','.join(_PACKAGES)}"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command += [f"--customize-hook={hook}" for hook in hooks]
    run_tool([*command, suite, "-", str(scratch / "apt.sources")], doing=f"making a Debian {suite}")
    disk = mbr_disk(scratch / "disk.raw", [system, scratch / "esp.fs"])
    install_loader(disk, (scratch / "boot.img").read_bytes(), (scratch / "core.img").read_bytes())


def install_loader(disk: Path, boot: bytes, core: bytes) -> None:
    """Write GRUB's first sector around a disk's partition table, and its core behind (grub-core/boot/i386/pc/boot.S).

    As built, the first sector looks for the core in sector 1 of the disk that it came from.
    """
    with disk.open("r+b") as file:
        file.write(boot[:440])
        file.seek(SECTOR)
        file.write(core)

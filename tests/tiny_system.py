"""A system of one script for disk images: the stock kernel, its modules, busybox, and an init that loads and mounts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.packages import find_program
from testbed.host.tools import run_tool
from testbed.image.store import ensure_image
from tests.disks import ext4

if TYPE_CHECKING:
    from testbed.image.store import Image

#: an init of its own, which loads drivers as it pleases
INIT = b"""\
#!/bin/busybox sh
echo $* $WITNESS > /starting
/bin/busybox --install -s /bin
PATH=/bin
mv /starting /started
modprobe -a virtio_pci virtio_blk
[ -e /etc/fstab ] && mount -a && swapon -a
while :; do sleep 1; done
"""


def installed(image: Image, folder: Path) -> dict[str, bytes]:
    """Return the modules of an image, with depmod's tables, as they are installed."""
    run_tool(["bsdtar", "-x", "-f", image.initramfs, "-C", folder, "lib/modules"], doing="unpacking modules")
    files = (path for path in (folder / "lib").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


#: its files that can be executed
PROGRAMS = ("bin/busybox", "bin/init")


def tiny_root(folder: Path) -> Path:
    """Return an ext4 file system with such a system; its init is /bin/init."""
    return ext4(folder, tiny_files(folder), name="root", mib=64, programs=PROGRAMS)


def tiny_files(folder: Path) -> dict[str, bytes]:
    """Return the files of such a system; `folder` is for what is unpacked."""
    # the image that reads disks has the drivers of file systems
    stock, busybox = ensure_image("disk-reader", progress=lambda _: None), find_program("busybox")
    assert stock.bzimage
    assert busybox
    return installed(stock, folder) | {
        f"boot/vmlinuz-{stock.kernel}": stock.bzimage.read_bytes(),
        "bin/busybox": Path(busybox).read_bytes(),
        "bin/init": INIT,
        "etc/os-release": b'PRETTY_NAME="Tiny 1"\n',
    }

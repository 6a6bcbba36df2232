"""What the tools of distributions make of a disk, read back: LVM, arrays, xfs, btrfs, FAT, other formats of image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.host.apt import AptState
from testbed.host.apt_sources import stanzas_for
from testbed.image.disk.disk_name import DiskName
from testbed.image.disk.disk_store import survey_disk
from testbed.image.disk.survey import systems_of
from testbed.image.package_file import unpack_deb
from testbed.image.store import remove_image
from tests.disks import converted, ext4, gpt_disk, mbr_disk, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testbed.pytest_plugin import BootFactory

PACKAGES: tuple[str, ...] = (
    "lvm2",
    "libdevmapper1.02.1",
    "libdevmapper-event1.02.1",
    "libaio1",
    "libedit2",
    "libbsd0",
    "libmd0",
)
PACKAGES += ("xfsprogs", "libinih1", "liburcu8", "btrfs-progs", "liblzo2-2", "mdadm", "dosfstools", "e2fsprogs")
PROGRAMS = ("lvm", "mkfs.xfs", "mkfs.btrfs", "btrfs", "mdadm", "mkfs.fat", "mkfs.ext4", "mke2fs")
#: MiB: two physical volumes, xfs (300 at least), btrfs, two members of an array, FAT, encrypted
SIZES = (64, 64, 304, 128, 24, 24, 34, 8)

MACHINE = """\
---
machine_type: q35
memory_mib: 768
disks: [{{id: disk1, path: {path}}}]
devices:
- {{driver: virtio-blk-pci, id: dev1, properties: {{drive: disk1}}}}
"""

_MAKE = """\
set -e
modprobe -a virtio_blk xfs btrfs vfat ext4 dm_mod raid1
lvm="/sbin/lvm"
quick="--noudevsync"
$lvm pvcreate -qq -y /dev/vda1 /dev/vda2
$lvm vgcreate -qq vg-0 /dev/vda1 /dev/vda2
$lvm lvcreate -qq -y -Wn -Zn $quick -n root -L 72M vg-0
$lvm lvcreate -qq -y -Wn -Zn $quick -n fast -i 2 -L 24M vg-0
$lvm vgmknodes
mke2fs -q -t ext4 /dev/vg-0/root
mke2fs -q -t ext4 /dev/vg-0/fast
modprobe dm_raid
$lvm lvcreate -qq -y -Wn -Zn $quick --type raid1 -m 1 --nosync -n twin -L 12M vg-0
mke2fs -q -t ext4 /dev/vg-0/twin
mkfs.xfs -q -L data /dev/vda3
mkfs.btrfs -q -L pool /dev/vda4
mdadm --create /dev/md0 --run --level=1 --metadata=1.2 --raid-devices=2 /dev/vda5 missing
mke2fs -q -t ext4 /dev/md0
mkfs.fat -n ESP /dev/vda7 >/dev/null
printf 'LUKS\\272\\276\\0\\2' | dd of=/dev/vda8 conv=notrunc 2>/dev/null
fill() { mkdir -p $1/etc; echo "NAME=$2" > $1/etc/os-release; }
for each in vg-0/root vg-0/fast vg-0/twin vda3 md0; do
  mount /dev/$each /mnt; fill /mnt $each; umount /mnt
done
mount /dev/vda4 /mnt; btrfs subvolume create /mnt/@ >/dev/null; fill /mnt/@ vda4; umount /mnt
mount /dev/vda7 /mnt; mkdir -p /mnt/loader/entries
printf 'title A\\nlinux /vmlinuz\\noptions quiet pci=noaer\\n' > /mnt/loader/entries/a.conf; umount /mnt
mount /dev/vda3 /mnt; echo later > /mnt/etc/crontab; sync
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield a recipe whose guest has what makes volumes and file systems."""
    state = AptState(folder=tmp_path / "apt")
    state.update(stanzas_for(None), "")
    for package in state.download(list(PACKAGES)):
        unpack_deb(package, tmp_path / "root")
    root = tmp_path / "root"
    libraries = sorted(root.glob("**/*.so*"))
    monkeypatch.setenv("LD_LIBRARY_PATH", ":".join(sorted({str(path.parent) for path in libraries})))
    files = [f"- {{host: {path}, guest: /usr/lib/{path.name}}}" for path in libraries]
    found = {path.name: path for path in sorted(root.glob("**/*bin/*"))}
    files += [f"- {{host: {found[name].resolve()}, guest: /sbin/{name}, mode: '0755'}}" for name in PROGRAMS]
    recipe = tmp_path / "tools.yaml"
    modules = "virtio_pci, virtio_blk, xfs, btrfs, vfat, nls_cp437, nls_ascii, ext4, dm_mod, dm_raid, raid1"
    head = f'description: d\nkernel: apt:linux-image-amd64\nmodules: [{modules}, "8250"]\nfiles:\n'
    recipe.write_text(head + "\n".join(files) + "\n")
    yield str(recipe)
    remove_image(str(recipe))


@pytest.mark.extended
@pytest.mark.network
@pytest.mark.seconds(120)
async def test_volumes_and_file_systems(tools: str, tmp_path: Path, testbed_boot: BootFactory) -> None:
    empty = []
    for number, mib in enumerate(SIZES):
        empty.append(tmp_path / f"part{number}")
        with empty[-1].open("wb") as file:
            file.truncate(mib << 20)
    disk = gpt_disk(tmp_path / "disk.raw", empty)
    machine = tmp_path / "disk.yaml.j2"
    machine.write_text(MACHINE.format(path=disk))
    async with testbed_boot(str(machine), image=tools) as guest:
        await guest.shell.put_file("/make", _MAKE.encode())
        await guest.shell.succeed("LD_LIBRARY_PATH=/usr/lib sh /make", patience=300)
    # the guest was killed with vda3 mounted: its log is dirty
    before = sha256(disk)
    records = survey_disk(DiskName(file=disk), progress=print)
    assert sha256(disk) == before
    kinds = {volume.name: volume.type for volume in records.volumes if not volume.error}
    assert kinds == {
        **{"vda1": "lvm", "vda2": "lvm", "vda3": "xfs", "vda4": "btrfs", "vda4:@": "btrfs"},
        **{"vda5": "md", "vda6": "", "vda7": "vfat", "vda8": "luks"},
        **{"md0": "ext4", "vg-0/root": "ext4", "vg-0/fast": "ext4", "vg-0/twin": "ext4"},
    }
    assert {system.name for system in systems_of(records)} == {
        "vg-0/root",
        "vg-0/fast",
        "vg-0/twin",
        "vda3",
        "vda4",
        "md0",
    }
    assert records.volume("vda3").files["etc/crontab"].content == b"later\n"
    assert "loader/entries/a.conf" in records.volume("vda7").files


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize("image_format", ["qcow2", "vmdk", "vdi", "vhdx"])
def test_formats(image_format: str, tmp_path: Path) -> None:
    system = ext4(tmp_path, {"etc/os-release": b"NAME=A\n", "etc/crontab": bytes(range(256)) * 999})
    disk = converted(mbr_disk(tmp_path / "disk.raw", [system]), image_format)
    before = sha256(disk)
    records = survey_disk(DiskName(file=disk), progress=print)
    assert sha256(disk) == before
    assert (records.table, records.volume("vda1").files["etc/crontab"].content) == ("mbr", bytes(range(256)) * 999)

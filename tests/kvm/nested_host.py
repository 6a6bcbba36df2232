"""A nested host: a machine of the test bed's with KVM, a root file system of the distribution's, and no network."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.guest.guest import boot
from testbed.host.accel import choose_accel
from testbed.host.host import LocalHost
from testbed.host.qemu import find_qemu
from testbed.host.slots import core_count, guest_slot
from testbed.image.store import ensure_image
from testbed.machine.argv import Boot
from testbed.machine.launch import launch
from testbed.machine.template import load_template
from testbed.model.cmdline import CommandLine
from tests.kvm.archives import python_of, root_file_system, site_folder, write_bed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.guest.guest import Guest
    from testbed.guest.shell import Result

HERE = Path(__file__).parent
#: wall seconds; a cell of a level-2 guest takes up to a minute under TCG
PATIENCE = 900.0
#: - `no_timer_check`: on a busy host the emulated timer may be late, and Linux panic
#: - `nohz=off highres=off`: a CPU under TCG's SVM was seen to sleep on with a timer interrupt pending in its APIC; a
#:   periodic one is raised again
#: - `mitigations=off`: exits are dear enough
#: - `tsc=reliable`: a late watchdog would make each look at the clock an exit
_CMDLINE = "no_timer_check nohz=off highres=off quiet mitigations=off tsc=reliable"

#: of the nested host, by what runs it
_CPU = {"kvm": "host", "tcg": "max,+svm"}

#: what makes a host of the disks; /host is a mount, so that it can become the root of a mount namespace
_SET_UP = """
set -e
mkdir -p /host /root-fs /bed-fs /above
mount -t squashfs -o ro /dev/vda /root-fs
mount -t squashfs -o ro /dev/vdb /bed-fs
mount -t tmpfs -o size=90%,mode=755 none /above
mkdir /above/upper /above/work
mount -t overlay -o lowerdir=/bed-fs:/root-fs,upperdir=/above/upper,workdir=/above/work none /host
mount -t proc none /host/proc
mount -t sysfs none /host/sys
mount -t devtmpfs none /host/dev
mkdir -p /host/dev/shm /host/dev/pts
mount -t tmpfs none /host/tmp
chmod 1777 /host/tmp
mount -t tmpfs none /host/dev/shm
mount -t devpts none /host/dev/pts
echo 127.0.0.1 localhost > /host/etc/hosts
modprobe kvm_amd 2>/dev/null || modprobe kvm_intel
# udev brings that group elsewhere
echo kvm:x:108: >> /host/etc/group
for user in member:1001 stranger:1002; do
  name=${user%:*}; id=${user#*:}
  echo "$name:x:$id:$id::/home/$name:/bin/sh" >> /host/etc/passwd
  echo "$name:x:$id:" >> /host/etc/group
done
"""
#: what runs a command there: its root is the mount, not a chroot's, so that namespaces can be made in it
_ENTER = """#!/bin/sh
exec unshare -m sh -c 'cd /host && mount --move . / && exec chroot . "$@"' sh "$@"
"""
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": "/bed:/bed/site",
    "LANG": "C.UTF-8",
    "COLUMNS": "200",
}


@dataclass(frozen=True, kw_only=True)
class User:
    """Who runs a command there."""

    name: str
    home: str
    drop: tuple[str, ...] = ()  #: what setpriv takes away


ROOT = User(name="root", home="/root")
#: root of many a container: it may neither mount nor unshare
CONFINED = User(name="root", home="/root", drop=("--bounding-set=-sys_admin", "--inh-caps=-sys_admin"))
#: in the group that owns /dev/kvm
MEMBER = User(name="member", home="/home/member", drop=("--reuid=1001", "--regid=1001", "--groups=108"))
STRANGER = User(name="stranger", home="/home/stranger", drop=("--reuid=1002", "--regid=1002", "--clear-groups"))


@dataclass(frozen=True, kw_only=True)
class NestedHost:
    """A host that is a guest of this one."""

    guest: Guest

    async def run(self, command: str, *, user: User = ROOT, folder: str = "", **variables: str) -> Result:
        """Run a shell command there, in the user's home or another folder; `testbed` is the test bed."""
        environment = {**_ENVIRONMENT, "HOME": user.home, "USER": user.name, **variables}
        script = f'testbed() {{ python3 -m testbed "$@"; }}; cd {shlex.quote(folder or user.home)} && {command}'
        words = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in environment.items()), "sh", "-c", script]
        if user.drop:
            words = ["/usr/bin/setpriv", *user.drop, "--", *words]
        return await self.guest.shell.run(f"/enter {shlex.join(words)}", patience=PATIENCE)

    async def set_device(self, mode: str, group: int, *, number: tuple[int, int] = (10, 232)) -> None:
        """Give /dev/kvm a mode and a group, or put another device in its place."""
        made = f"mknod -m {mode} /host/dev/kvm c {number[0]} {number[1]}"
        await self.guest.shell.succeed(f"rm -f /host/dev/kvm && {made} && chown 0:{group} /host/dev/kvm")


@contextlib.asynccontextmanager
async def nested_host(rundir: Path, *, cpus: int = 1) -> AsyncIterator[NestedHost]:
    """Boot a host with KVM, make its archives if need be, and yield it."""
    root = root_file_system()
    bed = rundir / "bed.squashfs"
    write_bed(bed, site_folder(python_of(root)), {"root": 0, "home/member": 1001, "home/stranger": 1002})
    image = ensure_image(str(HERE / "kvm-host.yaml"), progress=lambda _: None)
    qemu = find_qemu()
    accel = choose_accel("auto", qemu)
    parameters = {"root": str(root), "bed": str(bed), "cpus": cpus, "cpu": _CPU[accel.name]}
    spec = load_template(str(HERE / "kvm-host.yaml.j2")).spec(parameters)
    cmdline = CommandLine(_CMDLINE).with_prefix()
    boot_ = Boot(kernel=image.kernel_file, initramfs=image.initramfs, cmdline=cmdline)
    async with (
        guest_slot(count=core_count()),
        LocalHost() as host,
        launch(spec, boot_, host=host, qemu=qemu, accel=accel, rundir=rundir) as machine,
        boot(machine) as guest,
    ):
        await guest.load_modules("virtio_pci", "virtio_blk", "squashfs", "overlay")
        await guest.shell.put_file("/enter", _ENTER.encode(), mode=0o755)
        await guest.shell.put_file("/set-up", _SET_UP.encode())
        await guest.shell.succeed("sh /set-up", patience=PATIENCE)
        yield NestedHost(guest=guest)

"""A nested host: a machine of the test bed's with KVM, a root file system of the distribution's, and no network."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.guest.guest import boot
from testbed.guest.warm import resume, save_guest
from testbed.host.accel import choose_accel
from testbed.host.cache import cache_folder
from testbed.host.cpu import cpu_identity
from testbed.host.host import LocalHost
from testbed.host.qemu import find_qemu
from testbed.host.qemu_fetch import fetch_qemu
from testbed.host.qemu_store import fetched_qemus
from testbed.host.slots import core_count, guest_slot
from testbed.image.store import ensure_image
from testbed.machine.argv import Boot, Channels, qemu_argv
from testbed.machine.launch import launch
from testbed.machine.snapshot_store import SnapshotStore, program_hashes
from testbed.machine.template import load_template
from testbed.model.cmdline import CommandLine
from testbed.model.errors import BrokenError
from testbed.model.version_rule import version_number
from tests.kvm.archives import bed, python_of, root_file_system, site_folder
from tests.kvm.kvm_host import HOMES, PATIENCE, PEOPLE, ROOT, User, device_script, environment, words_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.guest.guest import Guest
    from testbed.guest.shell import Result
    from testbed.host.accel import Accel
    from testbed.host.qemu import Qemu
    from testbed.model.spec import MachineSpec

HERE = Path(__file__).parent
#: - `no_timer_check`: on a busy host the emulated timer may be late, and Linux panic
#: - `nohz=off highres=off`: a CPU under TCG's SVM was seen to sleep on with a timer interrupt pending in its APIC; a
#:   periodic one is raised again
#: - `kvm.halt_poll_ns=0`: to poll is to work
#: - `mitigations=off`: exits are dear enough
#: - `tsc=reliable`: a late watchdog would make each look at the clock an exit
_CMDLINE = "no_timer_check nohz=off highres=off kvm.halt_poll_ns=0 quiet mitigations=off tsc=reliable"

#: of the nested host, by what runs it
_CPU = {"kvm": "host", "tcg": "max,+svm"}

#: what makes a host of the disks; /host is a mount, so that it can become the root of a mount namespace
_SET_UP = f"""
set -e
top=/host
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
modprobe kvm_amd 2>/dev/null || modprobe kvm_intel
{PEOPLE}
"""
#: what runs a command there: its root is the mount, not a chroot's, so that namespaces can be made in it
_ENTER = """#!/bin/sh
exec unshare -m sh -c 'cd /host && mount --move . / && exec chroot . "$@"' sh "$@"
"""
#: the first whose CPUs lose no interrupt to another thread of QEMU's (docs/nested.md); for Debian 12 it is fetched
_QEMU = (11, 1)
_SUITE = "trixie-backports"
#: a module that is imported there already
_ASK = "/usr/bin/python3 -IS /bed/tests/kvm/inside/ask.py"
_SERVE = f"exec /enter /usr/bin/env -i {shlex.join(environment(ROOT))} python3 -m tests.kvm.inside.served"


@dataclass(frozen=True, kw_only=True)
class NestedHost:
    """A host that is a guest of this one; implements `KvmHost`."""

    guest: Guest

    async def run(self, command: str, *, user: User = ROOT) -> Result:
        """Run a shell command in the user's home."""
        words = words_of(user, command, ask=_ASK)
        return await self.guest.shell.run(f"/enter {shlex.join(words)}", patience=PATIENCE)

    async def set_device(self, mode: str, group: int, *, number: tuple[int, int] = (10, 232)) -> None:
        """Give /dev/kvm a mode and a group, or put another device in its place."""
        await self.guest.shell.succeed(device_script("/host", mode, group, number))


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What the nested host is: the same plan gives the same machine, and the same state of it."""

    spec: MachineSpec
    boot: Boot
    qemu: Qemu
    accel: Accel

    @property
    def key(self) -> str:
        """Return the name under which it is saved."""
        channels, folder = Channels.called(self.spec, "{}"), Path("rundir")
        argv = qemu_argv(
            spec=self.spec, boot=self.boot, channels=channels, qemu=self.qemu, accel=self.accel, folder=folder
        )
        # the names of the archives and of the image tell their content
        parts = [argv, _SET_UP, _ENTER, _SERVE, program_hashes(self.qemu.path, self.qemu.command)]
        host = cpu_identity() if self.accel.name == "kvm" else []
        return hashlib.sha256(json.dumps([*parts, host]).encode()).hexdigest()


def _plan() -> _Plan:
    root = root_file_system()
    bed_ = bed(site_folder(python_of(root)), HOMES)
    image = ensure_image(str(HERE / "kvm-host.yaml"), progress=lambda _: None)
    qemu = _emulator()
    accel = choose_accel("auto", qemu)
    parameters = {"root": str(root), "bed": str(bed_), "cpu": _CPU[accel.name]}
    return _Plan(
        spec=load_template(str(HERE / "kvm-host.yaml.j2")).spec(parameters),
        boot=Boot(kernel=image.kernel_file, initramfs=image.initramfs, cmdline=CommandLine(_CMDLINE).with_prefix()),
        qemu=qemu,
        accel=accel,
    )


def _emulator() -> Qemu:
    """Return the QEMU that runs the nested host."""
    own = find_qemu()
    if choose_accel("auto", own).name == "kvm" or version_number(own.version) >= _QEMU:
        return own
    fetched = fetched_qemus().get(_SUITE) or fetch_qemu(_SUITE, progress=lambda _: None)
    return find_qemu(fetched.name)


@contextlib.asynccontextmanager
async def nested_host(rundir: Path) -> AsyncIterator[NestedHost]:
    """Yield a host with KVM, as it was saved once it was ready; if it was not, make it and save it."""
    plan = _plan()
    store = SnapshotStore(cache_folder("kvm-host") / "saved")
    saved = store.find(plan.key)
    async with (
        guest_slot(count=core_count()),
        LocalHost() as host,
        launch(
            plan.spec,
            plan.boot,
            host=host,
            qemu=plan.qemu,
            accel=plan.accel,
            rundir=rundir,
            incoming=saved is not None,
        ) as machine,
        resume(machine, saved) if saved else boot(machine) as guest,
    ):
        if saved is None:
            await _make_ready(guest)
            await save_guest(guest, store, plan.key)
        yield NestedHost(guest=guest)


async def _make_ready(guest: Guest) -> None:
    """Make a host of a guest that has booted, and have the test bed imported there, once for all commands."""
    await guest.load_modules("virtio_pci", "virtio_blk", "squashfs", "overlay")
    await guest.shell.put_file("/enter", _ENTER.encode(), mode=0o755)
    await guest.shell.put_file("/set-up", _SET_UP.encode())
    await guest.shell.succeed("sh /set-up", patience=PATIENCE)
    heard = asyncio.get_running_loop().create_future()
    serving = await guest.shell.start(_SERVE)
    serving.follow(lambda output: None if heard.done() or not output else heard.set_result(output))
    first = await asyncio.wait_for(heard, PATIENCE)
    if first != b"served\n":
        raise BrokenError(f"nested host: importing the test bed: {(await serving.wait()).error}")

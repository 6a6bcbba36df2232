"""Level 2: a machine on level 1's own KVM, booted to its shell. To whoever has it, it is a guest like any other."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from testbed.guest.guest import boot
from testbed.host.accel import Accel
from testbed.machine.argv import Boot
from testbed.machine.launch import launch
from testbed.model.cmdline import CommandLine
from testbed.model.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import PurePath

    from testbed.guest.guest import Guest
    from testbed.guest.level1 import Level1Host
    from testbed.host.qemu import Qemu
    from testbed.model.spec import MachineSpec

#: loaded into level 1 before it can run a machine; one of the KVM drivers finds its CPU
LEVEL1_MODULES = ("virtio_pci", "virtio_console", "vfio_pci", "vfio_iommu_type1")
_KVM_DRIVERS = ("kvm_amd", "kvm_intel")


async def prepare_level1(guest: Guest) -> None:
    """Load what level 1 needs to run machines; raise UnsupportedError if its CPU has no virtualization."""
    await guest.load_modules(*LEVEL1_MODULES)
    await guest.act(" || ".join(f"modprobe {driver} 2>/dev/null" for driver in _KVM_DRIVERS) + " || true")
    if (await guest.shell.run("[ -c /dev/kvm ]")).status != 0:
        raise UnsupportedError(
            f"level 1: no KVM on CPU {guest.machine.accel.cpu(guest.machine.spec.cpu)}",
            hint="give it a CPU with virtualization: -p cpu=max,+svm",
        )


@contextlib.asynccontextmanager
async def level2(
    guest: Guest,
    host: Level1Host,
    spec: MachineSpec,
    *,
    qemu: Qemu,
    image: tuple[PurePath, PurePath],
    cmdline: str = "quiet",
    name: str = "level2",
) -> AsyncIterator[Guest]:
    """Launch a machine in level 1 under its KVM, boot it and yield its guest; `name` is its rundir in level 1's.

    `image` is kernel and initramfs as level 1 has them. Messages of its kernel cost an exit for every character, twice:
    hence `quiet`. Raises InputError with the words of level 1's QEMU if that refuses to start.
    """
    rundir = guest.machine.rundir / name
    rundir.mkdir()
    accel = Accel(name="kvm", reason="level 1 has it")
    kernel, initramfs = image
    boot_ = Boot(kernel=kernel, initramfs=initramfs, cmdline=CommandLine(cmdline).with_prefix())
    async with launch(spec, boot_, host=host, qemu=qemu, accel=accel, rundir=rundir) as machine, boot(machine) as inner:
        yield inner

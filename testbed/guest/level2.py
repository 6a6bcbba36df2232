"""L2: a machine on L1's own KVM, booted to its shell. To whoever has it, it is a guest like any other."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from testbed.guest.guest import boot, prepare_state
from testbed.guest.level1 import Level1Host
from testbed.host.accel import Accel
from testbed.image.level2 import image_places, qemu_in_guest
from testbed.machine.argv import Boot
from testbed.machine.launch import launch
from testbed.machine.template import load_template
from testbed.model.cmdline import CommandLine
from testbed.model.errors import UnsupportedError
from testbed.model.setup import Setup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import PurePath

    from testbed.guest.guest import Guest
    from testbed.guest.level1 import Kept
    from testbed.host.host import Host
    from testbed.host.qemu import Qemu
    from testbed.machine.launch import Machine
    from testbed.model.spec import MachineSpec

#: loaded into L1 before it can run a machine; one of the KVM drivers finds its CPU
LEVEL1_MODULES = ("virtio_pci", "virtio_console", "vfio_pci", "vfio_iommu_type1")
_KVM_DRIVERS = ("kvm_amd", "kvm_intel")
#: an exit costs 0.2 ms where TCG emulates L1. Each character of the console is one, and so is each half of a config
#: access: Linux 6.1 would look into all slots of the 253 buses that are not there, 16,192 exits of a boot's 26,000
LEVEL2_LINE = "quiet pci=lastbus=0"


@dataclass(frozen=True, kw_only=True)
class Level2:
    """A machine that is to run in L1, idle, before a scenario begins; it is saved with L1."""

    #: image and QEMU as L1's recipe names them
    setup: Setup = field(default_factory=lambda: Setup(machine="q35", cmdline=LEVEL2_LINE))
    #: its drivers, loaded
    modules: tuple[str, ...] = ()

    @property
    def spec(self) -> MachineSpec:
        """Return the description of the machine."""
        return load_template(self.setup.machine).spec(self.setup.parameters)

    def run_by(self, qemu: str) -> Level2:
        """Return the same machine, run by another QEMU."""
        return replace(self, setup=self.setup.model_copy(update={"qemu": qemu}))

    @property
    def key(self) -> str:
        """Return what its state depends on, beside L1 and its image."""
        return f"{self.spec.model_dump_json()} {self.setup} {' '.join(self.modules)}"


#: a machine's rundir in that of L1
LEVEL2 = "level2"
_KVM = Accel(name="kvm", reason="L1 has it")


async def prepare_level1(guest: Guest) -> None:
    """Load what L1 needs to run machines; raise UnsupportedError if its CPU or its image cannot."""
    await guest.load_modules(*LEVEL1_MODULES)
    await guest.act(" || ".join(f"modprobe {driver} 2>/dev/null" for driver in _KVM_DRIVERS) + " || true")
    if (await guest.shell.run("[ -c /dev/kvm ]")).status == 0:
        return
    if (await guest.shell.run("grep -qwE 'svm|vmx' /proc/cpuinfo")).status == 0:
        raise UnsupportedError(
            f"L1: no KVM, though its CPU has virtualization: its image has no working {' or '.join(_KVM_DRIVERS)}",
            hint="take the recipe level1, with another kernel if need be: --image level1@KERNEL",
        )
    raise UnsupportedError(
        f"L1: no KVM on CPU {guest.machine.accel.cpu(guest.machine.spec.cpu)}",
        hint="give it a CPU with virtualization: -p cpu=max,+svm",
    )


@contextlib.asynccontextmanager
async def level2(
    guest: Guest,
    host: Host,
    spec: MachineSpec,
    *,
    qemu: Qemu,
    image: tuple[PurePath, PurePath],
    cmdline: str = LEVEL2_LINE,
    name: str = LEVEL2,
) -> AsyncIterator[Guest]:
    """Launch a machine in L1 under its KVM, boot it and yield its guest; `name` is its rundir in L1's.

    `image` is kernel and initramfs as L1 has them. Raises InputError with the words of L1's QEMU if that refuses to
    start.
    """
    kernel, initramfs = image
    boot_ = Boot(kernel=kernel, initramfs=initramfs, cmdline=CommandLine(cmdline).with_prefix())
    rundir = guest.machine.rundir / name
    rundir.mkdir(exist_ok=True)
    async with launch(spec, boot_, host=host, qemu=qemu, accel=_KVM, rundir=rundir) as machine:
        _note_begin(guest, machine)
        async with boot(machine) as inner:
            yield inner


@contextlib.asynccontextmanager
async def idle_level2(guest: Guest, level2_: Level2) -> AsyncIterator[Guest]:
    """Start a machine in an L1 that has just booted, load its drivers, and yield L1 with it.

    Raises UnsupportedError if L1 cannot run machines.
    """
    await prepare_level1(guest)
    host, image = Level1Host(guest), image_places(level2_.setup.image)
    qemu = qemu_in_guest(level2_.setup.qemu)
    async with level2(guest, host, level2_.spec, qemu=qemu, image=image, cmdline=level2_.setup.cmdline) as inner:
        if level2_.modules:
            await inner.load_modules(*level2_.modules)
        await prepare_state(inner, level2_.setup.first)
        yield replace(guest, level2=inner)


@contextlib.asynccontextmanager
async def resumed_level2(guest: Guest, level2_: Level2, kept: Kept) -> AsyncIterator[Machine]:
    """Take over the machine that was saved with L1, and yield it, stopped; nothing reads its shell yet."""
    kernel, initramfs = image_places(level2_.setup.image)
    boot_ = Boot(kernel=kernel, initramfs=initramfs, cmdline=CommandLine(level2_.setup.cmdline).with_prefix())
    rundir = guest.machine.rundir / LEVEL2
    rundir.mkdir(exist_ok=True)
    async with launch(
        level2_.spec,
        boot_,
        host=Level1Host(guest, kept),
        qemu=qemu_in_guest(level2_.setup.qemu),
        accel=_KVM,
        rundir=rundir,
        resumed=True,
    ) as machine:
        _note_begin(guest, machine)
        yield machine


def _note_begin(guest: Guest, machine: Machine) -> None:
    """Note when the inner machine's journal began on the outer one's clock, for a timeline of both."""
    guest.machine.journal.step("say", "a machine was started in this one, which this script does not repeat")
    began = guest.machine.journal.shell.seconds - machine.journal.shell.seconds
    guest.machine.journal.shell.write("inner", {"rundir": machine.rundir.name, "began": round(began, 6)})

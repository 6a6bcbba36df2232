"""Prepared: a setup whose every input has been found and checked, and the only way from there to a machine or a guest.

Setup → prepare → Prepared → launched → Machine
                            → booted   → Guest
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.campaign.record.rundir import DESCRIPTION
from testbed.campaign.stock import HostStock
from testbed.guest.console.guest import boot_by_loader
from testbed.guest.drivers import load_drivers
from testbed.guest.guest import boot, prepare_state
from testbed.guest.user_space import settled
from testbed.host.claim import scratch_folder
from testbed.host.firmware import find_ovmf
from testbed.host.host import LocalHost
from testbed.host.slots import core_count, guest_slot
from testbed.image.disk.disk_name import is_disk, read_disk_name
from testbed.image.recipe import image_name, with_guest_qemu
from testbed.machine.argv import Boot
from testbed.machine.kernel_start import startable
from testbed.machine.launch import launch
from testbed.machine.qemu_choice import choose_qemu
from testbed.machine.reproduce import write_reproduction
from testbed.machine.template import load_template
from testbed.model.cmdline import CommandLine
from testbed.model.errors import InputError, OtherVersionError
from testbed.model.login import read_login
from testbed.model.version_rule import outside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from testbed.campaign.stock import Stock
    from testbed.guest.guest import Guest
    from testbed.guest.level2 import Level2
    from testbed.host.accel import Accel
    from testbed.host.firmware import Firmware
    from testbed.host.host import Host
    from testbed.host.qemu import Qemu
    from testbed.image.store import Image
    from testbed.machine.launch import Machine
    from testbed.machine.system_disk import SystemDisk
    from testbed.machine.template import Template
    from testbed.model.login import Login
    from testbed.model.outcome import Cell
    from testbed.model.setup import Setup
    from testbed.model.spec import MachineSpec
    from testbed.model.version_rule import Axis
    from testbed.scenarios.scenario import Scenario

    Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A setup with all that it names."""

    setup: Setup
    template: Template
    description: str  #: the YAML of the machine
    spec: MachineSpec
    cmdline: CommandLine
    qemu: Qemu
    accel: Accel
    built: Image | None  #: what the test bed boots; None: the disk's own loader boots that disk
    firmware: Firmware | None  #: UEFI; None: SeaBIOS
    system: SystemDisk | None  #: the disk whose own user space runs
    login: Login | None  #: who logs in on its console

    @property
    def image(self) -> Image:
        """Return what the test bed boots, where it does."""
        assert self.built, "the disk's own loader boots it"
        return self.built

    @property
    def boot(self) -> Boot:
        """Return what the machine starts."""
        return Boot(
            kernel=self.built.kernel_file if self.built else None,
            initramfs=self.built.initramfs if self.built else None,
            cmdline=self.cmdline.with_prefix() if self.built else self.cmdline.text,
            firmware=self.firmware,
            system=self.system,
            login=self.login,
        )


@dataclass(frozen=True, kw_only=True)
class PreparedCell(Prepared):
    """A prepared setup, and the question asked of its guest."""

    cell: Cell
    scenario: Scenario
    options: Mapping[str, Any]  #: every option of the scenario

    @property
    def level2(self) -> Level2 | None:
        """Return the machine that is to run in the guest."""
        return self.scenario.level2_with(self.options)

    @property
    def loaded(self) -> bool:
        """Return whether a load runs during the scenario."""
        return self.scenario.is_loaded(self.options)

    @property
    def warped(self) -> bool:
        """Return whether guest time is warped: where it can be, and the scenario says that it may be."""
        # with a second CPU, Linux 6.1 stops in early boot under -icount (QEMU 7.2); a level 2 was never tried under it;
        # and timers of a user space that is not the test bed's own would go off one after another
        one = self.spec.cpus == 1 and self.scenario.level2 is None and self.system is None
        can = self.accel.name == "tcg" and one and not self.loaded
        return can and (self.cell.time == "warped" or (self.cell.time == "auto" and self.scenario.warp_safe))


def prepare(setup: Setup, *, progress: Progress, stock: Stock | None = None) -> Prepared:
    """Find and check all that a setup names, and build its image if need be.

    With a `stock` that prepared others, shared parts are not looked up again.

    Raises:
        LackingError: there is no such QEMU, or it lacks what the machine needs.
        InputError: anything else that the setup names is wrong.
    """
    return Prepared(**_parts(setup, progress, stock or HostStock()))


def prepare_cell(cell: Cell, *, progress: Progress, stock: Stock | None = None) -> PreparedCell:
    """Find and check all that a cell names; raise as `prepare` does."""
    stock = stock or HostStock()
    scenario = stock.scenario(cell.scenario)
    options = scenario.values(cell.options)
    if cell.time == "warped" and scenario.is_loaded(options):
        raise InputError(
            f"scenario {scenario.name}: with load={options['load']} its guest's time is real",
            hint="leave out --time warped: it would count the host's latency as the guest's",
        )
    setup = with_level2_qemu(cell, scenario, options)
    parts = _parts(setup, progress, stock, sleeps=scenario.sleeps, by_loader=scenario.by_loader)
    kernel = {"kernel": parts["built"].kernel} if parts["built"] else {}
    check_versions(cell, **kernel, qemu=parts["qemu"].version)
    scenario.check(parts["spec"], parts["qemu"], options)
    if scenario.level2 and parts["system"]:
        raise InputError(f"scenario {scenario.name}: its machine in the guest needs the test bed's own user space")
    return PreparedCell(cell=cell, scenario=scenario, options=options, **parts)


def with_level2_qemu(setup: Setup, scenario: Scenario, options: Mapping[str, Any]) -> Setup:
    """Return a setup whose image has the QEMU that runs the machine in the guest; itself if none is asked for."""
    level2 = scenario.level2_with(options)
    if level2 is None or not level2.setup.qemu:
        return setup
    return setup.model_copy(update={"image": with_guest_qemu(setup.image, level2.setup.qemu)})


def check_versions(cell: Cell, **versions: str) -> None:
    """Raise LackingError for a kernel or QEMU for which nothing is documented.

    A QEMU's features are probed (testbed.host.qemu); only changes that leave no trace there go by version.
    """
    names: dict[Axis, str] = {"kernel": "Linux", "qemu": "QEMU"}
    for axis, name in names.items():
        if axis not in versions:
            continue
        version = versions[axis].partition(" ")[0]
        if why := outside(cell.since, cell.until, axis, version):
            option = "image" if axis == "kernel" else axis
            raise OtherVersionError(
                f"{name} {version}: this is {why}", lacking=version, remedy=f"give another with --{option}"
            )


def _parts(
    setup: Setup, progress: Progress, stock: Stock, *, sleeps: bool = False, by_loader: bool = False
) -> dict[str, Any]:
    """Return the fields of a Prepared."""
    machine = stock.machine(setup)
    cmdline = CommandLine(setup.cmdline)
    cmdline.check()
    _check_way(setup, followed=by_loader)
    by_loader = by_loader or setup.via == "console"
    spec = machine.rendered.spec
    qemu = stock.qemu(setup, spec)
    return {
        "setup": setup,
        "template": machine.template,
        "description": machine.rendered.text,
        "spec": spec,
        "cmdline": cmdline,
        "qemu": qemu,
        "accel": stock.accel(setup, qemu),
        "firmware": find_ovmf(spec.machine_type) if spec.firmware == "ovmf" else None,
        "login": read_login(Path(setup.login)) if setup.login else None,
        "system": stock.system(setup, progress) if setup.whole or by_loader else None,
        "built": None if by_loader else startable(stock.image(setup, progress), spec, sleeps=sleeps),
    }


def _check_way(setup: Setup, *, followed: bool) -> None:
    """Raise InputError for what does not go with the way that the guest boots, which a scenario may follow itself."""
    if setup.login and not followed and setup.via != "console":
        raise InputError(
            "--login: no console asks for a login here",
            hint="use the scenario boots, or another one with --via console",
        )
    if setup.via == "console" and not setup.login and not followed:
        raise InputError(
            "--via console: needs a login for its shell",
            hint="name a file with root and its password: --login FILE",
        )
    if followed or setup.via == "console":
        _check_loaders_choice(setup.image)
    if setup.first and followed:
        raise InputError("--first: the test bed has no process to run it in a guest that the disk's own loader boots")


def _check_loaders_choice(image: str) -> None:
    """Raise InputError if the name of a disk says which of its kernels or systems boots: its own loader chooses."""
    name = image_name(image)
    disk = read_disk_name(name) if is_disk(name) else None
    for option, given in (("kernel", disk and disk.kernel), ("system", disk and disk.system)):
        if given:
            raise InputError(
                f"image {image}: {option}={given} is not for a disk that its own loader boots",
                hint="leave it out; the scenario boots has an entry of the loader's menu chosen with -s entry=NUMBER",
            )


def setup_qemu(setup: Setup) -> Qemu:
    """Return the QEMU of a setup; raise as `prepare` does."""
    return choose_qemu(setup.qemu, load_template(setup.machine).spec(setup.parameters))


def launched(
    prepared: Prepared,
    host: Host,
    rundir: Path,
    *,
    attachable: bool = False,
    warped: bool = False,
    incoming: bool = False,
    overlay: Path | None = None,
) -> AbstractAsyncContextManager[Machine]:
    """Launch the machine, paused before its first instruction; see `testbed.machine.launch.launch`."""
    (rundir / DESCRIPTION).write_text(prepared.description)
    return launch(
        prepared.spec,
        prepared.boot,
        host=host,
        qemu=prepared.qemu,
        accel=prepared.accel,
        rundir=rundir,
        attachable=attachable,
        warped=warped,
        incoming=incoming,
        overlay=overlay,
    )


@contextlib.asynccontextmanager
async def paused_machine(setup: Setup, *, progress: Progress) -> AsyncIterator[Machine]:
    """Yield the machine of a setup, paused before its first instruction, to ask QEMU about it.

    Raises InputError as `prepare` and `launch` do.
    """
    prepared = prepare(setup, progress=progress)
    with scratch_folder("ask") as folder:
        async with LocalHost() as host, launched(prepared, host, folder) as machine:
            yield machine


@contextlib.asynccontextmanager
async def booted(
    prepared: Prepared,
    host: Host,
    rundir: Path,
    *,
    title: str,
    progress: Progress = lambda _: None,
    drivers: bool = True,
    slot: AbstractAsyncContextManager[None] | None = None,
    before: Callable[[Machine], Awaitable[None]] | None = None,
) -> AsyncIterator[Guest]:
    """Boot the machine and yield its guest, with the drivers of its devices, in the starting state the setup asks for.

    It holds a guest slot (or `slot`) while it boots: an idle guest takes no core. `before` is given the machine paused
    before its first instruction. On leaving, `reproduce.sh` is left.
    """
    waiting = slot or guest_slot(count=core_count(), on_wait=lambda: progress("waiting for a guest slot"))
    async with contextlib.AsyncExitStack() as stack:
        async with waiting:
            progress(f"booting {prepared.template.name}: QEMU {prepared.qemu.version}, {prepared.accel}")
            machine = await stack.enter_async_context(launched(prepared, host, rundir))
            stack.callback(write_reproduction, machine, title=title)
            if before:
                await before(machine)
            guest = await stack.enter_async_context(boot(machine) if prepared.built else boot_by_loader(machine))
            if prepared.setup.whole:
                guest = replace(guest, user_space=await settled(guest, prepared.setup.whole))
                progress(str(guest.user_space))
            elif drivers and prepared.built:
                await load_drivers(guest)
            await prepare_state(guest, prepared.setup.first)
        yield guest

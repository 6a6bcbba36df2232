"""Launch: from a description to a running machine, and its end.

The bed listens, QEMU connects and waits (`-S`); it runs once console, shell and QMP are attached.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.host.containment import CONTAINED, SWITCH
from testbed.image.disk.opened import opened
from testbed.machine.argv import (
    FIRMWARE_LOG,
    OWN_CHANNELS,
    VARIABLES,
    Boot,
    Channels,
    disk_path,
    goes_without,
    qemu_argv,
    typed,
)
from testbed.machine.attach import Attach
from testbed.machine.console import Console
from testbed.machine.journal import Journal
from testbed.machine.overlay import empty_overlay
from testbed.machine.qmp import Qmp
from testbed.machine.system_disk import OVERLAY
from testbed.machine.unread import logged_channels, logging
from testbed.machine.watch import Watch
from testbed.model.errors import BedError, BrokenError, InputError, QemuCrashedError, QemuLostError, SnapshotError

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import PurePath

    from testbed.host.accel import Accel
    from testbed.host.host import ChildProcess, Host, Listener
    from testbed.host.qemu import Qemu
    from testbed.image.disk.opened import OpenDisk
    from testbed.machine.system_disk import SystemDisk
    from testbed.model.spec import Device, Disk, MachineSpec, Property

LOG = "qemu.log"
#: the command, word by word
ARGV = "argv.json"
#: which UEFI firmware it was, if it was one
FIRMWARE = "firmware.json"
_CONNECT_SECONDS = 60
#: deaths QEMU brings on itself
_OWN_SIGNALS = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)

#: those that somebody else brings on it; what a sandbox denies it ends by another
_OTHERS_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)

#: QEMU's last words about its host, and what to do about them
_HINTS = (
    (
        'Failed to get "write" lock',
        "another QEMU holds this image: end it (fuser -v FILE names it) or copy the image",
    ),
    ("Could not access KVM", "use --accel tcg, or join the group that owns /dev/kvm"),
    ("cannot set up guest memory", "give the machine less memory: -p memory=256"),
    ("No space left on device", "free disk space where the rundir and the temporary files are"),
)


@dataclass(kw_only=True, eq=False)
class Machine:
    """The running QEMU seen as hardware; a live migration gives it another process (machine/migration.py)."""

    spec: MachineSpec
    boot: Boot
    qemu: Qemu
    accel: Accel
    rundir: Path
    argv: Sequence[str]
    #: guest time is counted in instructions, and skips what is idle
    warped: bool = False
    host: Host
    process: ChildProcess
    journal: Journal
    watch: Watch
    qmp: Qmp
    console: Console
    #: the guest's ttyS1: connected, not yet read by anybody
    shell: socket.socket
    #: the spec's further channels that wait for a reader: connected, not yet read by anybody
    channels: Mapping[str, socket.socket] = field(default_factory=dict)
    #: where people reach the machine; None unless it was launched for that
    attach: Attach | None = None
    #: ends with the machine
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    #: the machine as it was launched, if it was migrated since
    origin: Machine | None = None

    def typed(self, device: Device) -> dict[str, Property]:
        """Return the arguments of `device_add`."""
        return typed(device, self.qemu)

    @property
    def folder(self) -> PurePath:
        """Return where its disk images are, on the host that runs it."""
        return self.host.folder(self.rundir)

    async def make_disk(self, disk: Disk) -> None:
        """Create the (sparse) image of a disk that has no file of its own."""
        await _make_disk(disk, self.host, self.folder)


def check_spec(spec: MachineSpec, qemu: Qemu) -> None:
    """Raise InputError if this QEMU lacks the machine type, a device or a property."""
    qemu.check_machine_type(spec.machine_type)
    for each in spec.globals:
        # QEMU itself only warns of a name it does not know
        qemu.check_driver(each.driver)
        if not goes_without(each.driver, each.property, each.value, qemu):
            qemu.typed(each.driver, each.property, each.value)
    for device in spec.devices:
        typed(device, qemu)


@contextlib.asynccontextmanager
async def launch(
    spec: MachineSpec,
    boot: Boot,
    *,
    host: Host,
    qemu: Qemu,
    accel: Accel,
    rundir: Path,
    attachable: bool = False,
    warped: bool = False,
    incoming: bool = False,
    resumed: bool = False,
    overlay: Path | None = None,
) -> AsyncIterator[Machine]:
    """Start a machine and yield it paused before its first instruction; end it on leaving.

    An `attachable` one has further sockets, on which people can reach it beside the test bed. The time of a `warped`
    one is counted in instructions and skips what is idle. An `incoming` one waits for a saved state. A `resumed` one
    was started before: its host was saved with it, and hands out what it had. What its guest writes to its disk goes
    to a copy of `overlay`, or to an empty one.
    Raises InputError with QEMU's own words if QEMU refuses to start.
    """
    check_spec(spec, qemu)
    folder = host.folder(rundir)
    async with contextlib.AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(rundir))
        for disk in spec.disks:
            await _make_disk(disk, host, folder)
        if boot.firmware:
            variables = await asyncio.to_thread(boot.firmware.variables.read_bytes)
            await host.write_file(folder / VARIABLES, variables)
            # QEMU would make it; one that an earlier try has left belongs to that one's user
            await host.write_file(folder / FIRMWARE_LOG, b"")
            (rundir / FIRMWARE).write_text(json.dumps(boot.firmware.record, indent=1) + "\n")
        system = stack.enter_context(opened(boot.system.name)) if boot.system else None
        if boot.system:
            data = await asyncio.to_thread(_overlay, boot.system, overlay)
            await host.write_file(folder / OVERLAY, data)
        watch = Watch()
        plan = Plan(spec=spec, boot=boot, host=host, qemu=qemu, accel=accel, rundir=rundir, warped=warped)
        started = await start_qemu(stack, plan, system=system, attachable=attachable, incoming=incoming)
        peers = started.peers
        logged = {name: peers[name] for name in logged_channels(spec)}
        await stack.enter_async_context(logging(logged, rundir))
        console = await stack.enter_async_context(Console(peers["console"], rundir, watch))
        qmp = await stack.enter_async_context(Qmp(journal, watch))
        await greet(qmp, started, greeted=resumed)
        machine = Machine(
            spec=spec,
            boot=boot,
            qemu=qemu,
            accel=accel,
            rundir=rundir,
            argv=started.argv,
            warped=warped,
            host=host,
            process=started.process,
            journal=journal,
            watch=watch,
            qmp=qmp,
            console=console,
            shell=peers["shell"],
            channels={name: peers[name] for name in spec.channels if name not in logged},
            attach=started.attach,
            stack=stack,
        )
        warden = asyncio.create_task(watch_process(machine, started))
        stack.callback(warden.cancel)
        yield machine


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a QEMU is started for, and where; a second one of the same rundir has names of its own for its files."""

    spec: MachineSpec
    boot: Boot
    host: Host
    qemu: Qemu
    accel: Accel
    rundir: Path
    warped: bool
    log: str = LOG
    argv: str = ARGV


@dataclass(frozen=True, kw_only=True)
class Started:
    """A QEMU whose sockets are connected; it has not greeted yet."""

    argv: Sequence[str]
    process: ChildProcess
    peers: Mapping[str, socket.socket]
    attach: Attach | None
    log: Path  #: what it prints


async def start_qemu(
    stack: contextlib.AsyncExitStack,
    plan: Plan,
    *,
    system: OpenDisk | None = None,
    attachable: bool = False,
    incoming: bool = False,
) -> Started:
    """Start a QEMU that ends with the stack; raise InputError with its own words if it refuses."""
    spec, host, rundir = plan.spec, plan.host, plan.rundir
    listeners = {}
    for name in (*OWN_CHANNELS, *spec.channels):
        listeners[name] = await host.listen(name)
        stack.push_async_callback(listeners[name].close)
    channels = Channels(
        **{name: listeners[name].address for name in OWN_CHANNELS},
        others={name: listeners[name].address for name in spec.channels},
    )
    attach = Attach.beside(channels.qmp) if attachable else None
    argv = qemu_argv(
        spec=spec,
        boot=plan.boot,
        channels=channels,
        qemu=plan.qemu,
        accel=plan.accel,
        folder=host.folder(rundir),
        attach=attach,
        system=system,
        warped=plan.warped,
        incoming=incoming,
    )
    (rundir / plan.argv).write_text(json.dumps(argv, indent=1) + "\n")
    log = rundir / plan.log
    process = await host.start(argv, log=log, files=system.files if system else ())
    stack.push_async_callback(process.end)
    peers = {}
    for name, listener in listeners.items():
        peers[name] = await _connected(listener, process, log)
        stack.callback(peers[name].close)
    return Started(argv=argv, process=process, peers=peers, attach=attach, log=log)


def _overlay(disk: SystemDisk, saved: Path | None) -> bytes:
    """Return the overlay of a disk; raise SnapshotError if the saved one is gone."""
    try:
        return saved.read_bytes() if saved else empty_overlay(disk.size)
    except OSError as error:
        raise SnapshotError(f"snapshot: {OVERLAY}: {error.strerror}") from None


async def _make_disk(disk: Disk, host: Host, folder: PurePath) -> None:
    if disk.path is None:
        await host.make_file(disk_path(disk, folder), disk.size_mib << 20)
    elif not Path(disk.path).is_file():
        raise InputError(f"disk {disk.id}: {disk.path}: no such file")


async def _connected(listener: Listener, process: ChildProcess, log: Path) -> socket.socket:
    """Wait until QEMU connects; raise InputError with its stderr if it ends first."""
    accepting = asyncio.create_task(listener.accept())
    ending = asyncio.create_task(process.wait())
    try:
        await asyncio.wait({accepting, ending}, return_when=asyncio.FIRST_COMPLETED, timeout=_CONNECT_SECONDS)
        if accepting.done():
            return accepting.result()
        if ending.done():
            raise refused_to_start(log, ending.result())
        raise BrokenError(f"QEMU: did not connect to its sockets within {_CONNECT_SECONDS} s")
    finally:
        accepting.cancel()
        ending.cancel()
        await asyncio.gather(accepting, ending, return_exceptions=True)


async def greet(qmp: Qmp, started: Started, *, greeted: bool = False) -> None:
    """Connect QMP; QEMU opens its sockets early and refuses a bad device only after that."""
    greeting = asyncio.create_task(qmp.connect(started.peers["qmp"], greeted=greeted))
    ending = asyncio.create_task(started.process.wait())
    try:
        await asyncio.wait({greeting, ending}, return_when=asyncio.FIRST_COMPLETED, timeout=_CONNECT_SECONDS)
        if greeting.done() and not greeting.exception():
            return
        # the connection ends a moment before the process can be waited for
        await asyncio.wait({ending}, timeout=_CONNECT_SECONDS if greeting.done() else 0)
        if ending.done():
            raise refused_to_start(started.log, ending.result())
        raise BrokenError(f"QEMU: no QMP greeting within {_CONNECT_SECONDS} s")
    finally:
        greeting.cancel()
        ending.cancel()
        await asyncio.gather(greeting, ending, return_exceptions=True)


def refused_to_start(log: Path, status: int) -> BedError:
    """Build the error of a QEMU that ended before it ran anything, from its own last words."""
    words = last_words(log)
    if -status in _OTHERS_SIGNALS:
        return QemuLostError(f"QEMU was killed from outside as it started ({ended(status)})")
    hint = next(
        (hint for mark, hint in _HINTS if mark in words),
        f"the whole command is in {log.with_name(ARGV)}{_as_whom(log.parent)}",
    )
    return InputError(f"QEMU refused to start ({ended(status)}): {words or 'it printed nothing'}", hint=hint)


def _as_whom(rundir: Path) -> str:
    """Return how a QEMU was contained that the host denied something."""
    with contextlib.suppress(FileNotFoundError):
        how = (rundir / CONTAINED).read_text().strip()
        return f"; it ran as {how}; {SWITCH}=off runs it as you"
    return ""


def last_words(log: Path) -> str:
    """Return the end of what a QEMU printed, without warnings that precede something else (11.1 warns of `-mon`)."""
    with contextlib.suppress(FileNotFoundError):
        lines = log.read_text(errors="replace").strip().splitlines()
        return "\n".join(([line for line in lines if ": warning: " not in line] or lines)[-6:])
    return ""


def is_hosts(words: str) -> bool:
    """Return whether a QEMU's last words are about what its host lacks, and not about the machine."""
    return any(mark in words for mark, _ in _HINTS)


def from_outside(status: int) -> bool:
    """Return whether a QEMU that ended so was ended from outside."""
    return status <= 0 and -status not in _OWN_SIGNALS


async def watch_process(machine: Machine, started: Started) -> None:
    """Wait for the end of a machine's QEMU, and let whoever waits know, unless the machine has another by then."""
    try:
        status = await started.process.wait()
    except BedError as error:
        # the host of the process has gone itself, as a level 1 that panics
        machine.watch.fail(error)
        return
    if machine.process is not started.process:
        return
    words = last_words(started.log)
    told = f"QEMU ended while the machine ran ({ended(status)}){': ' + words if words else ''}"
    machine.watch.fail(QemuLostError(told) if from_outside(status) else QemuCrashedError(told))


def ended(status: int) -> str:
    """Return how a process ended, in words."""
    if status >= 0:
        return f"exit status {status}"
    # real-time signals have no names of their own
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"

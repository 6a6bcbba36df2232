"""Withholding: a PCI function played by the test bed, whose answers to register accesses can be late or never come.

QEMU has the function as `x-pci-proxy-dev` and asks for everything over a socket, which is handed to it over QMP while
it runs. Until it has its answer the vCPU stands in the access: no interrupt reaches it. QEMU's main loop goes on, but
whatever must stop that vCPU (`stop`, `quit`, a reset, a snapshot) waits too, so an answer must come first. A second
access to the function meanwhile, of its configuration space too, and QEMU hangs for good: it waits for the proxy's lock
with the machine's lock held, which the first one needs to go on (QEMU hw/remote/mpqemu-link.c; seen with 7.2.22).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING

from testbed.machine.played_config import BAR_SIZE, PlayedConfig
from testbed.machine.proxy_message import (
    HEADER_SIZE,
    UNANSWERED,
    ProxyCommand,
    parse_bar,
    parse_config,
    parse_header,
    reply,
)
from testbed.model.errors import ChannelError, UnsupportedError
from testbed.model.spec import Device
from testbed.model.stall import StallKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.machine.launch import Machine
    from testbed.model.mmio_record import MmioRecord
    from testbed.model.spec import Slot
    from testbed.model.stall import Stall

DRIVER = "x-pci-proxy-dev"
_DESCRIPTOR = "testbed-withholding"
_LAST_WITHOUT_KVM = 7  #: major version
#: wall seconds in which QEMU takes its last answer
_END_SECONDS = 0.5


class Withholder:
    """One function, as long as `withholding` is entered."""

    def __init__(self, machine: Machine, device: Device, config: PlayedConfig) -> None:
        self._machine = machine
        self._config = config
        self._registers: dict[int, int] = {}
        self._begun = time.monotonic()
        self._model: Stall | None = None
        self._answered = 0  #: accesses since the model was set
        self._release = asyncio.Event()
        #: as QEMU has it
        self.device = device
        #: accesses to its BAR that it got
        self.records: list[MmioRecord] = []
        #: where each stands in the rundir
        self.evidence: list[str] = []
        #: accesses that wait for their answer
        self.waiting = 0

    def withhold(self, model: Stall) -> None:
        """Answer register accesses from now on as the model says; `for` counts the seconds of the host."""
        self._model, self._answered = model, 0
        self._release.clear()

    def release(self) -> None:
        """Answer every access from now on, the one that waits first of all."""
        self._model = None
        self._release.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer QEMU until it closes the channel; raise ChannelError if it says what cannot be understood."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                try:
                    command, size = parse_header(await reader.readexactly(HEADER_SIZE))
                    value = await self._answer(command, await reader.readexactly(size))
                except ValueError as error:
                    raise ChannelError(f"{DRIVER} {self.device.id}: QEMU's message: {error}") from None
                if command not in UNANSWERED:
                    writer.write(reply(value))
                    await writer.drain()

    async def _answer(self, command: ProxyCommand, data: bytes) -> int:
        match command:
            case ProxyCommand.CONFIG_READ:
                return self._config.read(parse_config(data))
            case ProxyCommand.CONFIG_WRITE:
                self._config.write(parse_config(data))
            case ProxyCommand.BAR_READ | ProxyCommand.BAR_WRITE:
                return await self._access(parse_bar(command, data, seconds=time.monotonic() - self._begun))
            case _:
                pass  # its memory and its interrupt are no concern of a device that does no DMA
        return 0

    async def _access(self, record: MmioRecord) -> int:
        self.records.append(record)
        entry = {"vcpu": None, "region": self.device.id, "text": str(record)}
        self.evidence.append(self._machine.journal.mmio.write("access", entry))
        await self._wait(record)
        offset = record.gpa % BAR_SIZE
        if record.value is not None:
            self._registers[offset] = record.value
        return self._registers.get(offset, 0)

    async def _wait(self, record: MmioRecord) -> None:
        """Let the access wait as the model says."""
        model = self._model
        if model is None or not model.concerns(record.direction):
            return
        if not model.holds(completed=self._answered):
            self._answered += 1
            return
        self.waiting += 1
        limit = model.seconds if model.kind is StallKind.FOR else None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._release.wait(), limit)
        self.waiting -= 1


@contextlib.asynccontextmanager
async def withholding(
    machine: Machine, slot: Slot, *, device_id: str = "silent1", config: PlayedConfig | None = None
) -> AsyncIterator[Withholder]:
    """Plug such a function into a free slot and answer for it; what waits is released on leaving.

    `config` is its configuration space; without one it has no capabilities.

    Raises LackingError if this QEMU has no such device, UnsupportedError if it would die of it, RefusedError if it
    refuses it. Once left, the function stays in the machine and answers nothing: QEMU completes accesses by itself.
    """
    _check(machine)
    properties: dict[str, str | int | bool] = {"fd": _DESCRIPTOR}
    device = Device(driver=DRIVER, id=device_id, bus=slot.bus, addr=slot.addr, properties=properties)
    arguments = machine.typed(device)
    withholder = Withholder(machine, device, config or PlayedConfig())
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        serving = asyncio.create_task(withholder.serve(reader, writer))
        serving.add_done_callback(lambda task: _report(machine, task))
        try:
            machine.qmp.send_descriptor(theirs.fileno())
            await machine.qmp.execute_unrepeated("getfd", {"fdname": _DESCRIPTOR})
            theirs.close()
            machine.journal.step("say", f"the test bed played {device_id} ({DRIVER}), this script does not")
            await machine.qmp.execute_unrepeated("device_add", arguments)
            yield withholder
        finally:
            await _end(withholder, serving, writer)


def _check(machine: Machine) -> None:
    """Raise UnsupportedError where QEMU dies of the device: under TCG, in a version later than 7.

    Seen with 10.0.2, cold- and hot-plugged, on every bus: SIGSEGV in kvm_vm_ioctl(), asked for KVM_IRQFD where there is
    no KVM; 7.2.22 goes on. With KVM, and with the versions between, it was not tried.
    """
    version = machine.qemu.version.split()[0]
    if machine.accel.name != "kvm" and int(version.partition(".")[0]) > _LAST_WITHOUT_KVM:
        words = f"{DRIVER} of QEMU {version} calls KVM for its interrupt, which crashes QEMU under TCG"
        raise UnsupportedError(words, hint="use QEMU 7.2: --qemu PATH")


async def _end(withholder: Withholder, serving: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
    """Answer what waits, then close the channel."""
    withholder.release()
    with contextlib.suppress(OSError):  # of a QEMU that has ended
        writer.get_extra_info("socket").shutdown(socket.SHUT_RD)
    await asyncio.wait({serving}, timeout=_END_SECONDS)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    writer.close()


def _report(machine: Machine, serving: asyncio.Task[None]) -> None:
    """Let those who wait for the machine know that nobody answers for the function any more."""
    if not serving.cancelled() and isinstance(error := serving.exception(), ChannelError):
        machine.watch.fail(error)

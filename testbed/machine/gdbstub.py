"""GdbStub: QEMU's gdb stub, spoken to over a socket that is handed to QEMU while it runs.

Neither QEMU's command line nor a file knows of it, so a machine is the same machine until its stub is opened. While
it is open and the machine runs, any byte sent to it stops the machine: nothing is sent then but an interruption.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from testbed.machine.gdb_packet import CONTROL, RIP, Decoder, Registers, Stop, encode, parse_registers, parse_stop
from testbed.model.errors import ChannelError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.machine.attach import Attach
    from testbed.machine.qmp import Qmp

_CHARDEV = "testbed-gdb"
#: wall seconds in which a stub answers
_ANSWER_SECONDS = 10.0
_INTERRUPT = b"\x03"
#: what QEMU tells at each stop of the machine
STOP_EVENTS = ("STOP", "RESUME")


class GdbStub:
    """The stub of one machine; the machine stands still when it is opened, and runs on when it is closed."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._thread = 0  #: whose registers the stub shows; 0: not said yet
        self._decoder = Decoder()
        self._payloads: deque[bytes] = deque()

    async def greet(self) -> Stop:
        """Return the stop that opening the stub brought about."""
        await self._ask(b"qSupported")
        # QEMU lets single registers be written only after it was asked what there are
        await self._ask(b"qXfer:features:read:target.xml:0,ffb")
        return await self._stop(b"?")

    async def insert(self, address: int) -> None:
        """Stop whoever executes at `address`, with a hardware breakpoint where QEMU makes a difference."""
        await self._done(b"Z1,%x,1" % address)

    async def remove(self, address: int) -> None:
        """Stop nobody there any more."""
        await self._done(b"z1,%x,1" % address)

    async def registers(self, thread: int) -> Registers:
        """Return the registers of a stopped vCPU."""
        await self._select(thread)
        general = await self._ask(b"g")
        control = {name: await self._ask(b"p%x" % number) for name, number in CONTROL.items()}
        try:
            return parse_registers(general, control)
        except ValueError as error:
            raise ChannelError(f"gdb stub: registers: {error}") from None

    async def send_to(self, thread: int, address: int) -> None:
        """Have a stopped vCPU go on at another address."""
        await self._select(thread)
        await self._done(b"P%x=%s" % (RIP, address.to_bytes(8, "little").hex().encode()))

    async def step(self, thread: int) -> Stop:
        """Let one vCPU execute one instruction; the others stand still."""
        return await self._stop(b"vCont;s:%x" % thread)

    async def go_on(self) -> None:
        """Let the machine run."""
        await self._send(encode(b"c"))

    async def stopped(self) -> Stop:
        """Wait until a running machine stops."""
        while True:
            stop = parse_stop(await self._next())
            if stop is not None:
                return stop

    async def interrupt(self) -> None:
        """Ask a running machine to stop; it may have stopped by itself before."""
        await self._send(_INTERRUPT)

    async def detach(self) -> None:
        """Let the machine run, without any breakpoint."""
        await self._ask(b"D;1")

    async def _select(self, thread: int) -> None:
        # once is enough: only this client chooses
        if thread != self._thread:
            await self._done(b"Hg%x" % thread)
            self._thread = thread

    async def _stop(self, command: bytes) -> Stop:
        await self._send(encode(command))
        return await asyncio.wait_for(self.stopped(), _ANSWER_SECONDS)

    async def _done(self, command: bytes) -> None:
        answer = await self._ask(command)
        if answer != b"OK":
            words = answer.decode("ascii", "replace") or "not supported by this stub"
            raise ChannelError(f"gdb stub: {command.decode()}: {words}")

    async def _ask(self, command: bytes) -> bytes:
        """Send a command and return its answer; a stop reported before it is not its answer."""
        await self._send(encode(command))
        while parse_stop(answer := await asyncio.wait_for(self._next(), _ANSWER_SECONDS)) is not None:
            pass
        return answer

    async def _send(self, data: bytes) -> None:
        # QEMU takes the begin of a command as the acknowledgement of its last answer
        try:
            await asyncio.get_running_loop().sock_sendall(self._peer, data)
        except OSError as error:
            raise ChannelError(f"gdb stub: sending: {error.strerror}") from None

    async def _next(self) -> bytes:
        while not self._payloads:
            try:
                data = await asyncio.get_running_loop().sock_recv(self._peer, 65536)
                self._payloads.extend(self._decoder.feed(data))
            except (OSError, ValueError) as error:
                raise ChannelError(f"gdb stub: receiving: {error}") from None
            if not data:
                raise ChannelError("gdb stub: QEMU closed it")
        return self._payloads.popleft()


@contextlib.asynccontextmanager
async def open_stub(qmp: Qmp, attach: Attach | None = None) -> AsyncIterator[GdbStub]:
    """Open the stub of a machine and yield it; close it afterwards. The machine stands still meanwhile, or as told.

    QEMU has one stub: people whose machine can be attached to have none meanwhile, and get theirs back.
    """
    ours, theirs = socket.socketpair()
    with contextlib.closing(ours):
        ours.setblocking(False)
        with contextlib.closing(theirs):
            await _hand_over(qmp, theirs)
        try:
            yield GdbStub(ours)
        finally:
            await _take_back(qmp, attach)


async def _hand_over(qmp: Qmp, end: socket.socket) -> None:
    qmp.send_descriptor(end.fileno())
    await qmp.execute_unrepeated("getfd", {"fdname": _CHARDEV})
    await _serve(qmp, {"addr": {"type": "fd", "data": {"str": _CHARDEV}}, "server": False})


async def _take_back(qmp: Qmp, attach: Attach | None) -> None:
    # each stub takes its chardev with it when it goes
    await qmp.execute_unrepeated("human-monitor-command", {"command-line": "gdbserver none"})
    if attach:
        await _serve(qmp, {"addr": {"type": "unix", "data": {"path": attach.gdb}}, "server": True, "wait": False})


async def _serve(qmp: Qmp, data: dict[str, Any]) -> None:
    """Serve the stub on a socket; raise ChannelError with QEMU's words if it does not."""
    await qmp.execute_unrepeated("chardev-add", {"id": _CHARDEV, "backend": {"type": "socket", "data": data}})
    reply = str(
        await qmp.execute_unrepeated("human-monitor-command", {"command-line": f"gdbserver chardev:{_CHARDEV}"})
    )
    if "Could not" in reply:
        raise ChannelError(f"gdb stub: {reply.strip()}")

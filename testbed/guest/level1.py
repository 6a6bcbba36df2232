"""L1: a guest that is itself a host. A machine launched on it is an L2 machine, like any other to its user.

An L2 QEMU's byte channels are Unix sockets in the guest; a relay (guest-images/relay.c) passes each on to a port of
the guest's virtio-serial device, whose other end the test bed holds. A port serves one channel in the life of L1.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypedDict

from testbed.model.errors import BedError, BrokenError, UnsupportedError

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path, PurePath
    from typing import BinaryIO

    from testbed.guest.guest import Guest
    from testbed.guest.shell import Command
    from testbed.host.host import ChildProcess

#: where L1 keeps the files of its machines
_FOLDER = PurePosixPath("/run/level2")
#: wall seconds in which a relay must have opened its port
_RELAY_SECONDS = 60.0
#: what a relay says once the machine is there
_CONNECTED = b"connected"
#: an L2 machine has nothing to say for as long as it likes
_FOREVER = 10.0 * 24 * 3600


class Kept(TypedDict):
    """What of an L2 machine lives on in a saved L1: the numbers of its commands, and its process id."""

    relays: dict[str, tuple[str, int]]  #: of each channel: the port, and the relay
    process: tuple[int, int]  #: QEMU, and its process id


class Level1Host:
    """A guest as the host of machines; implements `testbed.host.host.Host`.

    With what was `kept` of a machine, that machine's channels and its process are the first it hands out.
    """

    def __init__(self, guest: Guest, kept: Kept | None = None) -> None:
        self._guest = guest
        self._kept = kept
        self._relays = dict(kept["relays"]) if kept else {}
        used = {port for port, _ in self._relays.values()}
        self._ports = iter([each for each in guest.machine.channels.items() if each[0] not in used])
        self._numbers = itertools.count(2 if kept else 1)
        self._started: dict[str, tuple[str, int]] = {}

    def keep(self, process: ChildProcess) -> Kept:
        """Return what is to be kept of the machine with this process, the only one that was started."""
        if not isinstance(process, Level2Process):
            raise TypeError("this process runs elsewhere")
        return Kept(relays=self._started, process=(process.number, process.pid))

    def folder(self, rundir: Path) -> PurePosixPath:
        """Return where in the guest the disk images of a machine are."""
        return _FOLDER / rundir.name

    async def write_file(self, path: PurePath, data: bytes) -> None:
        """Create a file in the guest."""
        await self._guest.shell.succeed(f"mkdir -p {shlex.quote(str(path.parent))}")
        await self._guest.shell.put_file(str(path), data)

    async def make_file(self, path: PurePath, size: int) -> None:
        """Create a sparse file in the guest."""
        name = shlex.quote(str(path))
        await self._guest.shell.succeed(f"mkdir -p {shlex.quote(str(path.parent))} && truncate -s {size} {name}")

    async def start(self, argv: Sequence[str], *, log: Path, files: Sequence[BinaryIO] = ()) -> Level2Process:
        """Start a program in the guest; it ends with the guest at the latest. `files` cannot be passed."""
        if files:
            raise UnsupportedError("L1: open files of this host cannot be passed to an L2 machine")
        if self._kept:
            number, pid = self._kept["process"]
            self._kept = None
            return Level2Process(self._guest.shell.adopt(number, "L2"), log, outer=self._guest.machine.process, pid=pid)
        script = _FOLDER / f"start{next(self._numbers)}"
        # too long for a command: uploaded, and then it becomes the program
        await self._guest.shell.succeed(f"mkdir -p {_FOLDER}")
        await self._guest.shell.put_file(str(script), f"echo $$ > {script}.pid\nexec {shlex.join(argv)}\n".encode())
        command = await self._guest.shell.start(f"exec sh {script}")
        process = Level2Process(command, log, outer=self._guest.machine.process)
        with contextlib.suppress(ValueError):  # it ended before it could say so
            process.pid = int(await self._pid(script))
        return process

    async def _pid(self, script: PurePosixPath) -> str:
        file = f"{script}.pid"
        await self._guest.shell.wait_path(file, exists=True, seconds=10)
        return (await self._guest.shell.run(f"cat {file}")).text

    async def listen(self, name: str) -> RelayListener:
        """Listen in the guest for one channel; raise UnsupportedError if L1 has no port left for it."""
        if name in self._relays:
            return self._adopt_relay(*self._relays.pop(name))
        port = next(self._ports, None)
        if port is None:
            hint = f"give it more: -p channels={len(self._guest.machine.channels) + 3}"
            raise UnsupportedError(f"L1: no port left for the channel {name} of an L2 machine", hint=hint)
        path = _FOLDER / f"{port[0]}.sock"
        await self._guest.shell.succeed(f"mkdir -p {_FOLDER}")
        relay = await self._guest.shell.start_verb("relay", str(path), port[0])
        self._started[name] = (port[0], relay.number)
        listener = RelayListener(relay, str(path), port[1])
        await listener.ready()
        return listener

    def _adopt_relay(self, port: str, number: int) -> RelayListener:
        path = str(_FOLDER / f"{port}.sock")
        relay = self._guest.shell.adopt(number, f"relay {path} {port}")
        return RelayListener(relay, path, self._guest.machine.channels[port], output=_CONNECTED)


class Level2Process:
    """A process in L1; implements `testbed.host.host.ChildProcess`."""

    def __init__(self, command: Command, log: Path, *, outer: ChildProcess, pid: int = 0) -> None:
        self._command = command
        self._outer = outer
        self._log = log.open("ab")
        #: its process id in L1; 0 if it ended at once
        self.pid = pid
        command.follow(self._write)

    def _write(self, output: bytes) -> None:
        if not self._log.closed:
            self._log.write(output)
            self._log.flush()

    def starved(self) -> float:
        """Return what L1 waited for a CPU; what a process in it waited for L1's is not counted."""
        return self._outer.starved()

    @property
    def number(self) -> int:
        """Return the number of the command that it is."""
        return self._command.number

    async def wait(self) -> int:
        """Wait for its end; return its exit status, or minus the signal that ended it."""
        return (await self._command.wait(patience=_FOREVER)).status

    async def end(self) -> None:
        """Kill it if it still runs, and wait until it is gone; L1 may have ended before it."""
        with contextlib.suppress(BedError), contextlib.closing(self._log):
            await self._command.kill()
            await self._command.wait()


class RelayListener:
    """A relay in L1; implements `testbed.host.host.Listener`."""

    def __init__(self, relay: Command, address: str, peer: socket.socket, *, output: bytes = b"") -> None:
        self._relay = relay
        self._peer = peer
        self._output = output
        self._changed = asyncio.Event()
        self.address = address
        relay.follow(self._hear)
        self._ending = asyncio.create_task(relay.wait(patience=_FOREVER))
        self._ending.add_done_callback(lambda _: self._changed.set())

    def _hear(self, output: bytes) -> None:
        self._output += output
        self._changed.set()

    async def ready(self) -> None:
        """Wait until it listens; raise BrokenError with its message if it cannot."""
        await self._until(b"listening")

    async def accept(self) -> socket.socket:
        """Wait for the L2 machine and return the bed's end of the port."""
        await self._until(_CONNECTED)
        return self._peer

    async def _until(self, word: bytes) -> None:
        async with asyncio.timeout(_RELAY_SECONDS):
            while word not in self._output:
                if self._ending.done():
                    raise BrokenError(f"L1: relay of {self.address}: {self._output.decode('utf-8', 'replace')}")
                self._changed.clear()
                await self._changed.wait()

    async def close(self) -> None:
        """End the relay; its port is not used again."""
        with contextlib.suppress(BedError):
            await self._relay.kill()
        self._ending.cancel()
        await asyncio.gather(self._ending, return_exceptions=True)
        self._peer.close()

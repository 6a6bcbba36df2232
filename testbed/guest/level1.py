"""Level 1: a guest that is itself a host. A machine launched on it is a level-2 machine, like any other to its user.

A level-2 QEMU's byte channels are Unix sockets in the guest; a relay (guest-images/relay.c) passes each on to a port of
the guest's virtio-serial device, whose other end the test bed holds. A port serves one channel in the life of level 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shlex
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.model.errors import BedError, BrokenError, UnsupportedError

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path, PurePath

    from testbed.guest.guest import Guest
    from testbed.guest.shell import Command

#: where level 1 keeps the files of its machines
_FOLDER = PurePosixPath("/run/level2")
#: wall seconds in which a relay must have opened its port
_RELAY_SECONDS = 60.0
#: a level-2 machine has nothing to say for as long as it likes
_FOREVER = 10.0 * 24 * 3600


class Level1Host:
    """A guest as the host of machines; implements `testbed.host.host.Host`."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._ports = iter(guest.machine.channels.items())
        self._numbers = itertools.count(1)

    def folder(self, rundir: Path) -> PurePosixPath:
        """Return where in the guest the disk images of a machine are."""
        return _FOLDER / rundir.name

    async def make_file(self, path: PurePath, size: int) -> None:
        """Create a sparse file in the guest."""
        name = shlex.quote(str(path))
        await self._guest.shell.succeed(f"mkdir -p {shlex.quote(str(path.parent))} && truncate -s {size} {name}")

    async def start(self, argv: Sequence[str], *, log: Path) -> Level2Process:
        """Start a program in the guest; it ends with the guest at the latest."""
        script = _FOLDER / f"start{next(self._numbers)}"
        # too long for a command: uploaded, and then it becomes the program
        await self._guest.shell.succeed(f"mkdir -p {_FOLDER}")
        await self._guest.shell.put_file(str(script), f"echo $$ > {script}.pid\nexec {shlex.join(argv)}\n".encode())
        command = await self._guest.shell.start(f"exec sh {script}")
        process = Level2Process(command, log)
        with contextlib.suppress(ValueError):  # it ended before it could say so
            process.pid = int(await self._pid(script))
        return process

    async def _pid(self, script: PurePosixPath) -> str:
        file = f"{script}.pid"
        await self._guest.shell.wait_path(file, exists=True, seconds=10)
        return (await self._guest.shell.run(f"cat {file}")).text

    async def listen(self, name: str) -> RelayListener:
        """Listen in the guest for one channel; raise UnsupportedError if level 1 has no port left for it."""
        port = next(self._ports, None)
        if port is None:
            hint = f"give it more: -p channels={len(self._guest.machine.channels) + 3}"
            raise UnsupportedError(f"level 1: no port is left for the channel {name} of a level-2 machine", hint=hint)
        path = _FOLDER / f"{port[0]}.sock"
        await self._guest.shell.succeed(f"mkdir -p {_FOLDER}")
        relay = await self._guest.shell.start_verb("relay", str(path), port[0])
        listener = RelayListener(relay, str(path), port[1])
        await listener.ready()
        return listener


class Level2Process:
    """A process in level 1; implements `testbed.host.host.ChildProcess`."""

    def __init__(self, command: Command, log: Path) -> None:
        self._command = command
        self._log = log.open("ab")
        #: its process id in level 1; 0 if it ended at once
        self.pid = 0
        command.follow(self._write)

    def _write(self, output: bytes) -> None:
        self._log.write(output)
        self._log.flush()

    async def wait(self) -> int:
        """Wait for its end; return its exit status, or minus the signal that ended it."""
        return (await self._command.wait(patience=_FOREVER)).status

    async def end(self) -> None:
        """Kill it if it still runs, and wait until it is gone; level 1 may have ended before it."""
        with contextlib.suppress(BedError):
            await self._command.kill()
            await self._command.wait()


class RelayListener:
    """A relay in level 1; implements `testbed.host.host.Listener`."""

    def __init__(self, relay: Command, address: str, peer: socket.socket) -> None:
        self._relay = relay
        self._peer = peer
        self._said = b""
        self._changed = asyncio.Event()
        self.address = address
        relay.follow(self._hear)
        self._ending = asyncio.create_task(relay.wait(patience=_FOREVER))
        self._ending.add_done_callback(lambda _: self._changed.set())

    def _hear(self, output: bytes) -> None:
        self._said += output
        self._changed.set()

    async def ready(self) -> None:
        """Wait until it listens; raise BrokenError with its words if it cannot."""
        await self._until(b"listening")

    async def accept(self) -> socket.socket:
        """Wait for the level-2 machine and return the bed's end of the port."""
        await self._until(b"connected")
        return self._peer

    async def _until(self, word: bytes) -> None:
        async with asyncio.timeout(_RELAY_SECONDS):
            while word not in self._said:
                if self._ending.done():
                    raise BrokenError(f"level 1: relay of {self.address}: {self._said.decode('utf-8', 'replace')}")
                self._changed.clear()
                await self._changed.wait()

    async def close(self) -> None:
        """End the relay; its port is not used again."""
        with contextlib.suppress(BedError):
            await self._relay.kill()
        self._ending.cancel()
        await asyncio.gather(self._ending, return_exceptions=True)
        self._peer.close()

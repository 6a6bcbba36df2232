"""Channel: the bed's end of a byte channel into the machine, which its description names in `channels`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from testbed.model.catalog import unknown
from testbed.model.errors import ChannelError

if TYPE_CHECKING:
    from testbed.machine.launch import Machine

#: bytes of a line, with its end
_LONGEST = 1 << 16


class Channel:
    """One channel of a running machine, for whoever is its only reader."""

    def __init__(self, machine: Machine, name: str) -> None:
        """Take a channel; raise InputError if the machine's description has none of that name."""
        if name not in machine.channels:
            raise unknown("channel", name, machine.channels)
        self._name = name
        self._watch = machine.watch
        self._socket = machine.channels[name]
        self._read = b""

    async def send(self, data: bytes) -> None:
        """Send bytes to the guest; raise what ended the machine if it ends first."""
        await self._watch.during(asyncio.get_running_loop().sock_sendall(self._socket, data))

    async def line(self, *, seconds: float = 60.0) -> bytes:
        """Return the next line from the guest without its end.

        Raises ChannelError if none has come within so many wall seconds, or is longer than 64 KiB.
        """
        try:
            async with asyncio.timeout(seconds):
                while b"\n" not in self._read and len(self._read) < _LONGEST:
                    self._read += await self._some()
        except TimeoutError:
            raise ChannelError(f"channel {self._name}: no line within {seconds:g} s, only {self._read!r:.60}") from None
        line, end, self._read = self._read.partition(b"\n")
        if not end:
            raise ChannelError(f"channel {self._name}: a line of more than {_LONGEST} bytes")
        return line

    async def _some(self) -> bytes:
        data = await self._watch.during(asyncio.get_running_loop().sock_recv(self._socket, 4096))
        if not data:
            await self._watch.lost(ChannelError(f"channel {self._name}: QEMU closed it"))
        return data

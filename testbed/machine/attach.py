"""Attach: sockets on which people reach a machine, beside those of the test bed.

QEMU serves two itself: a monitor, and the gdb stub. The console has one connection, and that is the test bed's; its
bytes are relayed to whoever connects.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.model.errors import BedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from testbed.machine.console import Console

#: bytes that wait for a peer before it is dropped: one that does not read must not fill the memory
_MOST_WAITING = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Attach:
    """The paths of a machine's Unix sockets for people."""

    console: str
    qmp: str
    gdb: str

    @classmethod
    def beside(cls, address: str) -> Attach:
        """Return sockets next to one of the machine's own, in the same private folder."""
        number = Path(address).stem
        folder = Path(address).parent
        return cls(**{name: str(folder / f"{number}.attach-{name}") for name in ("console", "qmp", "gdb")})


@contextlib.asynccontextmanager
async def relay_console(console: Console, path: str) -> AsyncIterator[None]:
    """Listen on a Unix socket; each peer gets the console's last lines, then all that comes, and types on it."""
    peers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer)
        try:
            await _serve(console, reader, writer)
        finally:
            peers.discard(writer)

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()
        for writer in tuple(peers):
            writer.transport.abort()
        await server.wait_closed()
        Path(path).unlink(missing_ok=True)


async def _serve(console: Console, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    def forward(data: bytes) -> None:
        writer.write(data)
        if writer.transport.get_write_buffer_size() > _MOST_WAITING:
            writer.transport.abort()

    forward(console.tail().replace("\n", "\r\n").encode() + b"\r\n")
    # a peer that leaves does not concern the machine, and a machine's end is reported elsewhere
    with console.follow(forward), contextlib.suppress(ConnectionError, BedError):
        while data := await reader.read(4096):
            await console.write(data)
    writer.close()

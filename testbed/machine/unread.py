"""Channels that nobody reads: what comes on them is kept as a log of the rundir, so that they never fill.

A device that writes to a full channel stops its vCPU in QEMU, and with it the machine: an isa-debugcon on the
firmware's debug port stops the boot. A port of virtio-serial does not: its device takes no more until there is room,
and what is in it is left to whoever will read it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from testbed.model.spec import MachineSpec

#: devices whose channel may wait to be read
_PATIENT = ("virtserialport", "virtconsole")
#: bytes of a log; what comes after them is read and lost
_MOST = 4 << 20


def logged_channels(spec: MachineSpec) -> list[str]:
    """Return the channels of a machine that stop it when they are full."""
    patient = {device.properties.get("chardev") for device in spec.devices_of(*_PATIENT)}
    return [name for name in spec.channels if name not in patient]


def channel_log(rundir: Path, name: str) -> Path:
    """Return where what came on a channel is kept."""
    return rundir / f"channel-{name}.log"


@contextlib.asynccontextmanager
async def logging(peers: Mapping[str, socket.socket], rundir: Path) -> AsyncIterator[None]:
    """Read these channels until the machine ends, each into its log."""
    readers = [asyncio.create_task(_keep(peer, channel_log(rundir, name))) for name, peer in peers.items()]
    try:
        yield
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


async def _keep(peer: socket.socket, path: Path) -> None:
    """Copy what comes into a file, as far as it may grow."""
    loop, room = asyncio.get_running_loop(), _MOST
    with path.open("wb", buffering=0) as file:
        while data := await loop.sock_recv(peer, 65536):
            words = data[:room]
            if len(data) > room > 0:
                words += f"\n[only the first {_MOST >> 20} MiB are kept]\n".encode()
            with contextlib.suppress(OSError):  # a full disk must not stop the machine
                file.write(words)
            room = max(room - len(data), 0)

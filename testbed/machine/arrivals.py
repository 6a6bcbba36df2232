"""Reading a serial line: what comes character by character is taken in pieces.

QEMU hands on each character of a serial port by itself. A reader that wakes for each uses as much of a CPU as the guest
that prints, so it rests between two reads. It must not rest too long: each character takes a buffer of the socket's,
and QEMU makes the guest wait when about 270 are full (Linux's `net.core.wmem_default`).
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

_SIZE = 65536
#: seconds between two reads: the shortest holds no answer up, and the longest is for a guest that prints slowly
SHORTEST, LONGEST = 0.001, 0.016
#: characters a read should bring
_FEW, _MANY = 32, 96


async def arrivals(peer: socket.socket) -> AsyncIterator[bytes]:
    """Yield what comes on a line until the other side closes it, the first of it at once."""
    loop = asyncio.get_running_loop()
    rest = SHORTEST
    while data := await loop.sock_recv(peer, _SIZE):
        yield data
        await asyncio.sleep(rest)
        rest = next_rest(rest, len(data)) if _readable(peer) else SHORTEST


def next_rest(rest: float, count: int) -> float:
    """Return how long to rest after a read that brought so many characters while more keep coming."""
    if count < _FEW:
        return min(2 * rest, LONGEST)
    return max(rest / 2, SHORTEST) if count > _MANY else rest


def _readable(peer: socket.socket) -> bool:
    poll = select.poll()
    poll.register(peer, select.POLLIN)
    return bool(poll.poll(0))

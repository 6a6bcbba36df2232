"""What comes on a serial line is taken in pieces, all of it, the first at once."""

from __future__ import annotations

import asyncio
import socket
import time

from testbed.machine.arrivals import LONGEST, SHORTEST, arrivals, next_rest


async def _collect(peer: socket.socket) -> list[bytes]:
    return [data async for data in arrivals(peer)]


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


def _print_slowly(peer: socket.socket, data: bytes, pause: float) -> None:
    """Write each character by itself, as QEMU does."""
    with peer:
        for value in data:
            peer.sendall(bytes([value]))
            time.sleep(pause)


async def test_characters_are_taken_in_pieces() -> None:
    ours, theirs = _pair()
    data = bytes(range(256)) * 8
    with ours:
        pieces, _ = await asyncio.gather(_collect(ours), asyncio.to_thread(_print_slowly, theirs, data, 0.0002))
    assert b"".join(pieces) == data
    # one by one they would be 2048
    assert len(pieces) < len(data) / 8


async def test_the_first_comes_at_once_and_a_closed_line_ends_it() -> None:
    ours, theirs = _pair()
    with ours:
        coming = arrivals(ours)
        theirs.sendall(b"x")
        assert await anext(coming) == b"x"
        theirs.close()
        assert [data async for data in coming] == []


def test_a_reader_never_rests_so_long_that_a_fast_writer_waits() -> None:
    rests = [LONGEST]
    # what a socket holds by default, character by character
    for _ in range(10):
        rests.append(next_rest(rests[-1], 270))
    assert rests[-1] == SHORTEST
    for _ in range(10):
        rests.append(next_rest(rests[-1], 1))
    assert rests[-1] == LONGEST

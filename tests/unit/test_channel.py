"""The bed's end of a byte channel: whole lines out of whatever pieces, and an end that is told."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest

from testbed.machine.channel import Channel
from testbed.machine.watch import Watch
from testbed.model.errors import ChannelError, InputError, QemuLostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.machine.launch import Machine


@dataclass
class Paper:
    """As much of a machine as a channel needs."""

    channels: dict[str, socket.socket]
    watch: Watch


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def channel(ours: socket.socket, watch: Watch | None = None) -> Channel:
    return Channel(cast("Machine", Paper(channels={"agent": ours}, watch=watch or Watch())), "agent")


async def test_lines_come_whole_and_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    agent = channel(pair[0])
    pair[1].sendall(b"one\ntwo\nthr")
    assert [await agent.line(), await agent.line()] == [b"one", b"two"]
    pair[1].sendall(b"ee\n")
    assert await agent.line() == b"three"
    await agent.send(b"answer\n")
    assert pair[1].recv(100) == b"answer\n"


async def test_a_line_that_does_not_end_is_told_with_what_came(pair: tuple[socket.socket, socket.socket]) -> None:
    agent = channel(pair[0])
    pair[1].sendall(b"half")
    with pytest.raises(ChannelError, match=r"no line within 0.05 s, only b'half'"):
        await agent.line(seconds=0.05)
    pair[1].sendall(b"x" * (1 << 16))
    with pytest.raises(ChannelError, match="more than 65536 bytes"):
        await agent.line()


async def test_the_machines_end_ends_a_wait(pair: tuple[socket.socket, socket.socket]) -> None:
    watch = Watch()
    agent = channel(pair[0], watch)
    watch.fail(QemuLostError("QEMU ended"))
    pair[1].close()
    with pytest.raises(QemuLostError):
        await agent.line()


async def test_a_channel_that_is_not_there_is_told_with_those_that_are(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    with pytest.raises(InputError, match="channel 'agnt' does not exist"):
        Channel(cast("Machine", Paper(channels={"agent": pair[0]}, watch=Watch())), "agnt")

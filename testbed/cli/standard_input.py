"""Standard input, read without holding up the event loop, whatever it is: a terminal, a pipe, a file."""

from __future__ import annotations

import asyncio
import os
import sys

_FD = 0


def at_terminal() -> bool:
    """Return whether a person types and reads here; a stream that was closed before the start is None."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


class StandardInput:
    """The lines, or the bytes, of standard input."""

    def __init__(self) -> None:
        self._rest = b""

    async def line(self) -> str | None:
        """Return the next line without its end, or None once the input has ended."""
        while b"\n" not in self._rest:
            data = await self.read()
            if not data:
                last, self._rest = self._rest, b""
                return last.decode("utf-8", "replace") if last else None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("utf-8", "replace").removesuffix("\r")

    async def read(self) -> bytes:
        """Return the next bytes; none once the input has ended."""
        if sys.stdin is None:
            return b""
        try:
            await _readable()
            return os.read(_FD, 4096)
        except OSError:  # a terminal that was closed
            return b""


async def _readable() -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(_FD, ready.set)
    except PermissionError:  # epoll takes no plain files: they are always readable
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(_FD)

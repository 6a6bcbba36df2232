"""Console: the kernel's voice on ttyS0, always read, always logged.

One task owns the line: an unread serial port stops the guest after 280 bytes. Each wait is a pexpect searcher over a
cursor of its own, fed by that task, so that any number of waits can run side by side.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import re
from typing import TYPE_CHECKING, Self

from pexpect.expect import searcher_re

from testbed.model.errors import ChannelError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from testbed.machine.watch import Watch

FILE = "console.log"
#: how much text a wait can look back over
_WINDOW = 1 << 20
_TAIL_LINES = 12


class Console:
    """The console of one machine."""

    def __init__(self, peer: socket.socket, rundir: Path, watch: Watch) -> None:
        self._peer = peer
        self._path = rundir / FILE
        self._file = self._path.open("wb")
        self._watch = watch
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._dropped = 0  # characters cut off the front of _text
        self._line = ""
        self._lines = 0
        self._followers: list[Callable[[bytes], None]] = []
        self._fed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._peer.close()
        with contextlib.suppress(OSError):  # what a full disk does not take was told when it was written
            self._file.close()

    @property
    def position(self) -> int:
        """Return how many characters have come so far: a cursor for `expect`."""
        return self._dropped + len(self._text)

    def written(self) -> bytes:
        """Return everything that came so far."""
        return self._path.read_bytes()

    def adopt(self, data: bytes) -> None:
        """Take what a saved guest had printed before it was saved."""
        self._file.write(data)
        self._file.flush()
        self._text = self._decoder.decode(data)
        self._lines = data.count(b"\n")

    def tail(self) -> str:
        """Return the last lines, for an error message."""
        return "\n".join(self._text.splitlines()[-_TAIL_LINES:])

    async def expect(self, pattern: str, *, start: int = 0) -> re.Match[str]:
        """Wait until `pattern` (a regular expression) appears at or after the cursor `start`."""
        return await self._watch.during(self._search(pattern, start))

    async def write(self, data: bytes) -> None:
        """Type on the console: whoever reads ttyS0 in the guest gets it."""
        try:
            await self._watch.during(asyncio.get_running_loop().sock_sendall(self._peer, data))
        except OSError as error:
            await self._watch.lost(ChannelError(f"console: writing to ttyS0: {error.strerror}"))

    @contextlib.contextmanager
    def follow(self, take: Callable[[bytes], None]) -> Iterator[None]:
        """Hand everything that comes from now on to `take`, as it comes."""
        self._followers.append(take)
        try:
            yield
        finally:
            self._followers.remove(take)

    async def _search(self, pattern: str, start: int) -> re.Match[str]:
        searcher = searcher_re([re.compile(pattern)])
        async with self._fed:
            while True:
                text = self._text[max(0, start - self._dropped) :]
                if searcher.search(text, len(text)) >= 0:
                    found: re.Match[str] = searcher.match
                    return found
                await self._fed.wait()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        # a line that is lost is QEMU's end, which its process tells
        while data := await loop.sock_recv(self._peer, 65536):
            with self._watch.told(f"console: writing {FILE}"):
                self._file.write(data)
                self._file.flush()
                for take in tuple(self._followers):
                    take(data)
                await self._feed(self._decoder.decode(data))

    async def _feed(self, text: str) -> None:
        self._look_for_crash(text)
        async with self._fed:
            self._text += text
            surplus = len(self._text) - _WINDOW
            if surplus > 0:
                self._text = self._text[surplus:]
                self._dropped += surplus
            self._fed.notify_all()

    def _look_for_crash(self, text: str) -> None:
        *lines, self._line = (self._line + text).split("\n")
        # a panic may be the last thing ever printed, without an end of line: keep that much and no more
        self._line = self._line[-4096:]
        for line in lines:
            self._lines += 1
            self._watch.read_line(line.strip("\r"), evidence=f"{FILE}:{self._lines}")

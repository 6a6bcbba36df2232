"""Console: the kernel's voice on ttyS0, always read, always logged.

One task owns the line: an unread serial port stops the guest after 280 bytes. Each wait is a pexpect searcher over a
cursor of its own, fed by that task, so that any number of waits can run side by side.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pexpect.expect import searcher_re

from testbed.machine.arrivals import arrivals
from testbed.model.errors import ChannelError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from testbed.machine.watch import Watch

FILE = "console.log"
#: how much text a wait can look back over
_WINDOW = 1 << 20
#: of that, how much is looked through again when more has come: no words that are waited for are longer
_LONGEST = 1 << 12
_TAIL_LINES = 12


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Words that a wait was for, and where they stand."""

    index: int  #: of the pattern among those that were waited for
    match: re.Match[str]
    start: int  #: a cursor: where the words begin
    end: int  #: a cursor: what comes behind them
    evidence: str


class Console:
    """The console of one machine."""

    def __init__(self, peer: socket.socket, rundir: Path, watch: Watch) -> None:
        self._peer = peer
        self._path = rundir / FILE
        self._file = self._path.open("wb")
        self._watch = watch
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._secret = b""
        self._held = b""  # what may be the begin of the secret, not yet written
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
        with contextlib.suppress(OSError):
            self._file.write(b"*" * len(self._held))
        with contextlib.suppress(OSError):  # what a full disk does not take was told when it was written
            self._file.close()

    async def move(self, peer: socket.socket) -> None:
        """Read on from another QEMU, once the one that had the machine has ended and all that it printed is read."""
        await asyncio.gather(self._reader, return_exceptions=True)
        self._peer.close()
        self._peer = peer
        self._reader = asyncio.create_task(self._read())

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

    def conceal(self, secret: str) -> None:
        """Keep a secret out of the log, of what is handed on, and of every message: stars stand for it."""
        self._secret = secret.encode()

    def tail(self) -> str:
        """Return the last lines, for an error message."""
        return "\n".join(self._text.splitlines()[-_TAIL_LINES:])

    async def expect(self, pattern: str, *, start: int = 0) -> re.Match[str]:
        """Wait until `pattern` (a regular expression) appears at or after the cursor `start`."""
        return (await self.expect_first([pattern], start=start)).match

    async def expect_first(self, patterns: Sequence[str], *, start: int = 0) -> Seen:
        """Wait until one of the patterns appears at or after the cursor `start`; the one that stands first is it."""
        return await self._watch.during(self._search([re.compile(each) for each in patterns], start))

    def line_at(self, position: int) -> str:
        """Return the line at a cursor, as far as it has come."""
        at = max(0, position - self._dropped)
        return self._text[self._text.rfind("\n", 0, at) + 1 :].partition("\n")[0].strip("\r")

    def before(self, position: int, *, lines: int = _TAIL_LINES) -> list[str]:
        """Return the last lines before a cursor that are not blank."""
        text = self._text[: max(0, position - self._dropped)]
        return [line for line in text.splitlines() if line.strip()][-lines:]

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

    async def _search(self, patterns: Sequence[re.Pattern[str]], start: int) -> Seen:
        searcher = searcher_re(list(patterns))
        searched = start
        async with self._fed:
            while True:
                skipped = max(0, start - self._dropped)
                text = self._text[skipped:]
                index = searcher.search(text, len(text), self.position - searched + _LONGEST)
                if index >= 0:
                    at = skipped + searcher.start
                    return self._seen(index, searcher.match, at, skipped + searcher.end)
                searched = self.position
                await self._fed.wait()

    def _seen(self, index: int, match: re.Match[str], at: int, end: int) -> Seen:
        # the words may begin with the end of the line before
        first = at + len(match[0]) - len(match[0].lstrip("\r\n"))
        return Seen(
            index=index,
            match=match,
            start=self._dropped + first,
            end=self._dropped + end,
            evidence=f"{FILE}:{self._lines - self._text.count(chr(10), first) + 1}",
        )

    async def _read(self) -> None:
        # a line that is lost is QEMU's end, which its process tells
        async for data in arrivals(self._peer):
            with self._watch.told(f"console: writing {FILE}"):
                shown = self._concealed(data)
                self._file.write(shown)
                self._file.flush()
                for take in tuple(self._followers):
                    take(shown)
                await self._feed(self._decoder.decode(data))

    def _concealed(self, data: bytes) -> bytes:
        """Return what may be written of what has come so far: no part of the secret."""
        if not self._secret:
            return data
        data = (self._held + data).replace(self._secret, b"*" * len(self._secret))
        longest = min(len(data), len(self._secret) - 1)
        held = next((size for size in range(longest, 0, -1) if data.endswith(self._secret[:size])), 0)
        self._held = data[len(data) - held :]
        return data[: len(data) - held]

    async def _feed(self, text: str) -> None:
        self._look_for_crash(text)
        async with self._fed:
            self._text += text
            if self._secret:
                secret = self._secret.decode()
                self._text = self._text.replace(secret, "*" * len(secret))
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

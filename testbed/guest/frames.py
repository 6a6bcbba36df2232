"""Frames on the guest's command channel (ttyS1); the other end is guest-images/init.c, which documents them.

A decoder takes bytes as they come and yields the frames in them; whatever is no frame is skipped and counted.

Letters to the guest: R run, K kill, J job's process id, T timer, S steps of guest time, G go on, W wait for a path,
U D Z upload, P ping, L log up to here, C cancel. From it: O and E output, X exit, A upload done, H hello, M kernel
messages, ! failed; J, T, S, W, P and L answer the request of that letter.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"\x01TB1"
MAX_PAYLOAD = 4096
#: type, padding, id, payload length, nanoseconds of guest CLOCK_MONOTONIC
_BODY = struct.Struct("<cBHIIQ")
_HEADER = len(MAGIC) + _BODY.size + 4


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One message of the channel."""

    type: str  #: one letter, see above
    id: int
    payload: bytes = b""
    nanoseconds: int = 0  #: guest time at which it was sent; 0 from the host

    @property
    def seconds(self) -> float:
        """Return the guest time of the frame in seconds since boot."""
        return self.nanoseconds / 1e9


def encode(frame: Frame) -> bytes:
    """Return a frame's bytes; raise ValueError if its payload is too long."""
    if len(frame.payload) > MAX_PAYLOAD:
        raise ValueError(f"frame {frame.type}: {len(frame.payload)} bytes of payload, {MAX_PAYLOAD} fit")
    body = _BODY.pack(frame.type.encode("ascii"), 0, 0, frame.id, len(frame.payload), frame.nanoseconds)
    crc = zlib.crc32(frame.payload, zlib.crc32(body))
    return MAGIC + body + struct.pack("<I", crc) + frame.payload


class FrameDecoder:
    """Finds the frames in a stream of bytes."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: bytes that belonged to no frame
        self.skipped = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take more bytes and yield every frame that is complete now."""
        self._buffer += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        while True:
            self._skip_to_magic()
            if len(self._buffer) < _HEADER:
                return None
            letter, _, _, number, length, nanoseconds = _BODY.unpack_from(self._buffer, len(MAGIC))
            if length <= MAX_PAYLOAD and len(self._buffer) < _HEADER + length:
                return None
            if length <= MAX_PAYLOAD and self._crc_fits(length):
                payload = bytes(self._buffer[_HEADER : _HEADER + length])
                del self._buffer[: _HEADER + length]
                return Frame(type=letter.decode("latin-1"), id=number, payload=payload, nanoseconds=nanoseconds)
            self._skip(1)

    def _crc_fits(self, length: int) -> bool:
        body_end = len(MAGIC) + _BODY.size
        wanted = int.from_bytes(self._buffer[body_end:_HEADER], "little")
        crc = zlib.crc32(self._buffer[len(MAGIC) : body_end])
        return wanted == zlib.crc32(self._buffer[_HEADER : _HEADER + length], crc)

    def _skip_to_magic(self) -> None:
        at = self._buffer.find(MAGIC)
        if at >= 0:
            self._skip(at)
            return
        # the end may be the beginning of a magic that has not come whole yet
        keep = next((n for n in (3, 2, 1) if self._buffer.endswith(MAGIC[:n])), 0)
        self._skip(len(self._buffer) - keep)

    def _skip(self, count: int) -> None:
        self.skipped += count
        del self._buffer[:count]

"""Frames of the command channel: found in any stream however it is cut, and nothing else is taken for one."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.guest.frames import MAGIC, MAX_PAYLOAD, Frame, FrameDecoder, encode
from testbed.model.catalog import shipped_folder

INIT = Path(shipped_folder("guest-images")) / "init.c"
HEADER = 28

FRAMES = st.builds(
    Frame,
    type=st.sampled_from("OEXTWAPLHM!"),
    id=st.integers(0, 2**32 - 1),
    payload=st.binary(max_size=300),
    nanoseconds=st.integers(0, 2**64 - 1),
)
#: what a stray printk or a half-lost frame may put between frames
NOISE = st.binary(max_size=60).filter(
    lambda noise: MAGIC not in noise and not noise.endswith((b"\x01", b"\x01T", b"\x01TB"))
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def decoded(*pieces: bytes) -> list[Frame]:
    decoder = FrameDecoder()
    return [frame for piece in pieces for frame in decoder.feed(piece)]


def header(*, length: int, crc: int = 0) -> bytes:
    return MAGIC + struct.pack("<cBHIIQI", b"O", 0, 0, 1, length, 0, crc)


GOOD = Frame(type="X", id=7, payload=b"exit 0", nanoseconds=1_500_000_000)


@given(st.lists(st.tuples(NOISE, FRAMES), max_size=6), NOISE, st.lists(st.integers(0), max_size=12))
def test_frames_come_back_from_any_stream_cut_anywhere(
    parts: list[tuple[bytes, Frame]], last: bytes, places: list[int]
) -> None:
    stream = b"".join(noise + encode(frame) for noise, frame in parts) + last
    decoder = FrameDecoder()
    got = [frame for piece in cut(stream, places) for frame in decoder.feed(piece)]
    assert got == [frame for _, frame in parts]
    assert decoder.skipped == sum(len(noise) for noise, _ in parts) + len(last)


def test_a_frame_comes_byte_by_byte_as_soon_as_it_is_whole() -> None:
    decoder = FrameDecoder()
    counts = [len(list(decoder.feed(bytes([byte])))) for byte in encode(GOOD)]
    assert counts == [0] * (len(counts) - 1) + [1]


@given(FRAMES, st.data())
def test_a_frame_with_one_wrong_byte_is_skipped_and_the_next_is_found(frame: Frame, data: st.DataObject) -> None:
    raw = bytearray(encode(frame))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    # bytes enough for any length a broken header may claim
    filler = b"." * (MAX_PAYLOAD + HEADER)
    assert decoded(bytes(raw) + encode(GOOD) + filler) == [GOOD]


@pytest.mark.parametrize("length", [MAX_PAYLOAD + 1, 65536, 2**31, 2**32 - 1])
def test_an_absurd_length_does_not_swallow_the_next_frame(length: int) -> None:
    assert decoded(header(length=length) + encode(GOOD)) == [GOOD]


def test_half_a_frame_does_not_swallow_the_next_one() -> None:
    big = encode(Frame(type="O", id=1, payload=b"x" * MAX_PAYLOAD))
    after = [encode(Frame(type="O", id=n, payload=b"y" * 1000)) for n in range(2, 8)]
    assert [frame.id for frame in decoded(big[:500], *after)] == list(range(2, 8))


def test_a_frame_in_a_frames_payload_is_payload() -> None:
    outer = Frame(type="O", id=1, payload=encode(GOOD))
    assert decoded(encode(outer)) == [outer]


def test_the_longest_payload_passes_and_a_longer_one_is_refused() -> None:
    longest = Frame(type="D", id=1, payload=b"\x01" * MAX_PAYLOAD)
    assert decoded(encode(longest)) == [longest]
    with pytest.raises(ValueError, match=f"{MAX_PAYLOAD + 1} bytes of payload, {MAX_PAYLOAD} fit"):
        encode(Frame(type="D", id=1, payload=b"\x01" * (MAX_PAYLOAD + 1)))


@pytest.mark.parametrize(
    "junk",
    [b"\x00" * 1000, MAGIC * 250, b"\x01T" * 500, header(length=MAX_PAYLOAD) * 36, header(length=2**32 - 1) * 36],
)
def test_whatever_comes_the_decoder_keeps_no_more_than_one_frame(junk: bytes) -> None:
    decoder = FrameDecoder()
    for _ in range(50):
        assert list(decoder.feed(junk)) == []
        assert len(decoder._buffer) <= HEADER + MAX_PAYLOAD


@given(st.lists(st.binary(max_size=200) | st.just(MAGIC) | st.just(header(length=3))))
def test_every_byte_is_a_frame_skipped_or_kept(pieces: list[bytes]) -> None:
    decoder = FrameDecoder()
    used = sum(HEADER + len(frame.payload) for piece in pieces for frame in decoder.feed(piece))
    assert used + decoder.skipped + len(decoder._buffer) == sum(map(len, pieces))


def test_time_is_guest_seconds() -> None:
    assert GOOD.seconds == 1.5


def test_the_layout_is_the_one_init_documents() -> None:
    raw = encode(GOOD)
    assert raw[:4] == MAGIC
    assert struct.unpack("<cxxxIIQI", raw[4:HEADER]) == (b"X", 7, 6, 1_500_000_000, zlib.crc32(raw[4:24] + b"exit 0"))
    assert raw[HEADER:] == b"exit 0"


def test_init_and_the_bed_agree_on_the_numbers() -> None:
    numbers = dict(re.findall(r"^#define (HEADER|MAX_PAYLOAD|MAGIC) (\S+)$", INIT.read_text(), re.MULTILINE))
    assert numbers == {"MAGIC": r'"\1TB1"', "HEADER": str(HEADER), "MAX_PAYLOAD": str(MAX_PAYLOAD)}
    assert len(encode(Frame(type="P", id=0))) == HEADER
    assert MAGIC == b"\1TB1"

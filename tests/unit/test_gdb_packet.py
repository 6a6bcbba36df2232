"""The remote serial protocol: what is encoded is decoded, in any pieces, and damage is told."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.machine.gdb_packet import Decoder, Stop, encode, parse_registers, parse_stop

#: registers of a process in user mode with SMAP on, as a `g` answer of QEMU's has them
RIP, CS, CR4 = 0x60002040, 0x33, 0x750EF0


def registers(*, cs: int = CS, cr4: int = CR4) -> tuple[bytes, dict[str, bytes]]:
    general = b"".join(number.to_bytes(8, "little") for number in range(0x100, 0x110))
    segments = b"".join(selector.to_bytes(4, "little") for selector in (cs, 0x2B, 0, 0, 0, 0))
    whole = general + RIP.to_bytes(8, "little") + (0x246).to_bytes(4, "little") + segments + bytes(200)
    control = {"cr3": 0x1FE16000, "cr4": cr4}
    return whole.hex().encode(), {name: value.to_bytes(8, "little").hex().encode() for name, value in control.items()}


@given(st.lists(st.binary(max_size=60), max_size=6), st.data())
def test_what_is_encoded_is_decoded_however_it_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"+".join(map(encode, payloads))
    decoder, seen = Decoder(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        seen += decoder.feed(stream[:size])
        stream = stream[size:]
    assert seen == payloads


@given(st.binary(max_size=40), st.binary(min_size=1, max_size=40))
def test_no_stream_raises_anything_but_value_error(before: bytes, garbage: bytes) -> None:
    decoder = Decoder()
    with contextlib.suppress(ValueError):
        assert all(isinstance(payload, bytes) for payload in decoder.feed(before + garbage))


def test_runs_are_expanded() -> None:
    body = b'0* 1*"x'  # 0 and three more, 1 and five more
    packet = b"$%s#%02x" % (body, sum(body) & 0xFF)
    assert Decoder().feed(packet) == [b"0000111111x"]


@pytest.mark.parametrize("packet", [b"$OK#00", b"$OK#zz"])
def test_a_wrong_checksum_is_told(packet: bytes) -> None:
    with pytest.raises(ValueError, match="checksum"):
        Decoder().feed(packet)


def test_a_stream_without_end_is_given_up() -> None:
    with pytest.raises(ValueError, match="no end within"):
        Decoder().feed(b"$" + b"a" * 100_000)


@pytest.mark.parametrize(
    ("payload", "stop"),
    [
        (b"T05thread:01;", Stop(signal=5, thread=1)),
        (b"T05thread:p01.0a;", Stop(signal=5, thread=10)),
        (b"S02", Stop(signal=2, thread=1)),
        (b"T0", None),
        (b"OK", None),
        (b"Tzzthread:01;", None),
        (b"", None),
    ],
)
def test_stops(payload: bytes, stop: Stop | None) -> None:
    assert parse_stop(payload) == stop


def test_registers_tell_privilege_and_smap() -> None:
    user = parse_registers(*registers())
    assert (user.rip, user.cpl, user.smap) == (RIP, 3, True)
    assert user.values["rsi"] == 0x104
    assert user.values["cr3"] == 0x1FE16000
    kernel = parse_registers(*registers(cs=0x10, cr4=CR4 & ~(1 << 21)))
    assert (kernel.cpl, kernel.smap) == (0, False)


def test_registers_of_another_machine_are_refused() -> None:
    with pytest.raises(ValueError, match="bytes of registers"):
        parse_registers(b"00" * 64, {})
    with pytest.raises(ValueError, match="non-hexadecimal"):
        parse_registers(b"E01 no such thing", {})

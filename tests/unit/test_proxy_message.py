"""The messages of x-pci-proxy-dev: what QEMU's structures hold, and that no bytes raise anything but ValueError."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.machine.proxy_message import (
    HEADER_SIZE,
    ProxyCommand,
    parse_bar,
    parse_config,
    parse_header,
    reply,
)
from testbed.model.mmio_record import Direction, Space

#: BarAccessMsg of include/hw/remote/mpqemu-link.h: hwaddr, uint64_t, unsigned, bool, padding
BAR_WRITE = struct.pack("<QQI?3x", 0xFDE00014, 0x7, 1, True)


def test_a_header_has_a_command_and_a_size() -> None:
    assert parse_header(struct.pack("<iiQ", 4, 0, 24)) == (ProxyCommand.BAR_WRITE, 24)
    assert len(reply(7)) == HEADER_SIZE + 8


def test_a_write_has_its_value_and_a_read_has_none_yet() -> None:
    write = parse_bar(ProxyCommand.BAR_WRITE, BAR_WRITE, seconds=1.0)
    assert str(write) == "kvm_mmio: mmio write len 1 gpa 0xfde00014 val 0x7"
    read = parse_bar(ProxyCommand.BAR_READ, struct.pack("<QQI?3x", 0xC000, 0, 4, False), seconds=1.0)
    assert (read.direction, read.space, read.value) == (Direction.READ, Space.PIO, None)


@pytest.mark.parametrize(("address", "width"), [(254, 4), (0, 0), (0, -1), (0, 5), (4096, 1)])
def test_an_access_beside_configuration_space_is_refused(address: int, width: int) -> None:
    with pytest.raises(ValueError, match="of configuration space"):
        parse_config(struct.pack("<IIi", address, 0, width))


def test_a_message_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="1048576 bytes"):
        parse_header(struct.pack("<iiQ", 0, 0, 1 << 20))


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=40))
def test_no_bytes_raise_anything_but_value_error(header: bytes, data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_header(header)
    with contextlib.suppress(ValueError):
        parse_config(data)
    with contextlib.suppress(ValueError):
        parse_bar(ProxyCommand.BAR_READ, data, seconds=0.0)

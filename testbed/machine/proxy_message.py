"""Messages between QEMU's x-pci-proxy-dev and whoever plays its device.

Source: QEMU 7.2 to 10.0, include/hw/remote/mpqemu-link.h, hw/remote/mpqemu-link.c and proxy.c. The protocol is
QEMU-internal and has no version.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from testbed.model.mmio_record import Direction, MmioRecord, Space

#: command, padding, size of what follows
_HEADER = struct.Struct("<iIQ")
#: address, value, length
_CONFIG = struct.Struct("<IIi")
#: guest physical address, value, size, whether it is memory
_BAR = struct.Struct("<QQI?3x")
_VALUE = struct.Struct("<Q")
HEADER_SIZE = _HEADER.size
#: the longest, SYNC_SYSMEM, has 128 bytes: a stream that is no such protocol must not fill the memory
_LONGEST = 4096


class ProxyCommand(enum.IntEnum):
    """What QEMU asks for."""

    SYNC_SYSMEM = 0
    RETURN = 1
    CONFIG_WRITE = 2
    CONFIG_READ = 3
    BAR_WRITE = 4
    BAR_READ = 5
    SET_IRQFD = 6
    RESET = 7


#: told, not asked: QEMU waits for no reply
UNANSWERED = (ProxyCommand.SYNC_SYSMEM, ProxyCommand.SET_IRQFD)


@dataclass(frozen=True, kw_only=True)
class ConfigAccess:
    """An access to configuration space."""

    address: int
    value: int
    width: int


def parse_header(data: bytes) -> tuple[ProxyCommand, int]:
    """Return the command and how many bytes follow; raise ValueError if it is none of QEMU's."""
    number, _, size = _HEADER.unpack(data)
    if size > _LONGEST:
        raise ValueError(f"a message of {size} bytes")
    return ProxyCommand(number), size


def parse_config(data: bytes) -> ConfigAccess:
    """Return an access to configuration space; raise ValueError if it lies outside."""
    address, value, width = _unpack(_CONFIG, data)
    if not (0 < width <= 4 and address + width <= 256):
        raise ValueError(f"{width} bytes at {address:#x} of configuration space")
    return ConfigAccess(address=address, value=value, width=width)


def parse_bar(command: ProxyCommand, data: bytes, *, seconds: float) -> MmioRecord:
    """Return an access to a BAR; a read's value is not known yet."""
    address, value, width, memory = _unpack(_BAR, data)
    write = command is ProxyCommand.BAR_WRITE
    return MmioRecord(
        seconds=seconds,
        vcpu=None,
        rip=None,
        gpa=address,
        width=width,
        value=value if write else None,
        direction=Direction.WRITE if write else Direction.READ,
        space=Space.MMIO if memory else Space.PIO,
    )


def reply(value: int) -> bytes:
    """Return the one kind of reply there is."""
    return _HEADER.pack(ProxyCommand.RETURN, 0, _VALUE.size) + _VALUE.pack(value)


def _unpack(layout: struct.Struct, data: bytes) -> tuple[int, ...]:
    if len(data) < layout.size:
        raise ValueError(f"{len(data)} bytes where {layout.size} were expected")
    return layout.unpack(data[: layout.size])

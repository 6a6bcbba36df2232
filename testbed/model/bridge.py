"""A PCI-PCI bridge's header: the buses below it and the windows it forwards.

Source: PCIe Base 6.3, section 7.5.1.3; PCI-to-PCI Bridge Architecture 1.2, chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.bar import Space
from testbed.model.config_space import LAYOUT_BRIDGE

if TYPE_CHECKING:
    from testbed.model.config_space import ConfigSpace

BUSES_AT = 0x18
IO_AT = 0x1C
MEMORY_AT = 0x20
PREFETCHABLE_AT = 0x24
CONTROL_AT = 0x3E
CONTROL_SERR = 1 << 1

#: class code of a bridge that forwards what nobody else claims, too
_SUBTRACTIVE = 0x060401


@dataclass(frozen=True, kw_only=True)
class Window:
    """The addresses a bridge forwards downstream, both ends included; one that is closed is not there."""

    name: str
    space: Space
    at: int  #: where its registers stand
    start: int
    end: int

    def covers(self, start: int, end: int) -> bool:
        """Return whether all of a range, both ends included, is forwarded."""
        return self.start <= start and end <= self.end


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """What a bridge's header says."""

    primary: int
    secondary: int
    subordinate: int
    control: int
    subtractive: bool
    windows: tuple[Window, ...]

    @property
    def forwards_errors(self) -> bool:
        """Return whether error messages from below are forwarded (Bridge Control, SERR# Enable)."""
        return bool(self.control & CONTROL_SERR)


def read_bridge(space: ConfigSpace) -> Bridge | None:
    """Return what a bridge's header says, or None if it is no PCI-PCI bridge's."""
    if space.layout != LAYOUT_BRIDGE:
        return None
    windows = (_io(space), _memory(space), _prefetchable(space))
    return Bridge(
        primary=space.u8(BUSES_AT),
        secondary=space.u8(BUSES_AT + 1),
        subordinate=space.u8(BUSES_AT + 2),
        control=space.u16(CONTROL_AT),
        subtractive=space.u32(0x08) >> 8 == _SUBTRACTIVE,
        windows=tuple(window for window in windows if window.start <= window.end),
    )


def _io(space: ConfigSpace) -> Window:
    base, limit = space.u8(IO_AT), space.u8(IO_AT + 1)
    start, end = (base & 0xF0) << 8, (limit & 0xF0) << 8 | 0xFFF
    if base & 0xF == 1:
        start |= space.u16(0x30) << 16
        end |= space.u16(0x32) << 16
    return Window(name="I/O", space=Space.IO, at=IO_AT, start=start, end=end)


def _memory(space: ConfigSpace) -> Window:
    start, end = _megabytes(space, MEMORY_AT)
    return Window(name="memory", space=Space.MEMORY, at=MEMORY_AT, start=start, end=end)


def _prefetchable(space: ConfigSpace) -> Window:
    start, end = _megabytes(space, PREFETCHABLE_AT)
    if space.u8(PREFETCHABLE_AT) & 0xF == 1:
        start |= space.u32(0x28) << 32
        end |= space.u32(0x2C) << 32
    return Window(name="prefetchable", space=Space.MEMORY, at=PREFETCHABLE_AT, start=start, end=end)


def _megabytes(space: ConfigSpace, at: int) -> tuple[int, int]:
    return (space.u16(at) & 0xFFF0) << 16, (space.u16(at + 2) & 0xFFF0) << 16 | 0xFFFFF

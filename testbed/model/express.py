"""The PCI Express capability: what kind of port a function is, its device, link, slot and root registers.

Source: PCIe Base 6.3, section 7.5.3.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model import capabilities

if TYPE_CHECKING:
    from testbed.model.config_space import ConfigSpace

#: up to and with Link Status: what every version has
LENGTH = 0x14

DEVICE_CONTROL_AT = 0x08
DEVICE_STATUS_AT = 0x0A
LINK_STATUS_AT = 0x12
SLOT_CAPABILITIES_AT = 0x14
SLOT_CONTROL_AT = 0x18
DEVICE_CONTROL_2_AT = 0x28

#: bits of Device Control, and at the same places of Device Status, with what they enable or report
REPORTS = ((0, "correctable"), (1, "non-fatal"), (2, "fatal"), (3, "unsupported request"))
_REPORTS_ACTIVE = 1 << 20  #: of Link Capabilities
_TRAINING, _ACTIVE = 1 << 11, 1 << 13  #: of Link Status
_SPEEDS = {1: "2.5", 2: "5", 3: "8", 4: "16", 5: "32", 6: "64"}


class PortType(enum.IntEnum):
    """Device/Port Type (section 7.5.3.2)."""

    ENDPOINT = 0x0
    LEGACY_ENDPOINT = 0x1
    ROOT_PORT = 0x4
    UPSTREAM = 0x5
    DOWNSTREAM = 0x6
    TO_PCI = 0x7
    FROM_PCI = 0x8
    INTEGRATED = 0x9  #: an endpoint in the root complex: no link
    EVENT_COLLECTOR = 0xA


@dataclass(frozen=True, kw_only=True)
class Link:
    """What the link can do, and does."""

    max_speed: int  #: 1 is 2.5 GT/s, 2 is 5 GT/s, …
    max_width: int
    speed: int
    width: int
    down: bool  #: speed and width mean nothing: it is down, in training, or nothing is at its other end


@dataclass(frozen=True, kw_only=True)
class Slot:
    """The slot behind a port: Slot Capabilities, Control and Status (sections 7.5.3.9 to 7.5.3.11)."""

    at: int  #: where Slot Capabilities stands
    capabilities: int
    control: int
    status: int

    @property
    def number(self) -> int:
        """Return the physical slot number."""
        return self.capabilities >> 19

    @property
    def attention_button(self) -> bool:
        """Return whether there is an attention button."""
        return bool(self.capabilities & 1 << 0)

    @property
    def power_controller(self) -> bool:
        """Return whether software can switch the slot's power."""
        return bool(self.capabilities & 1 << 1)

    @property
    def surprise(self) -> bool:
        """Return whether a device may be pulled without notice."""
        return bool(self.capabilities & 1 << 5)

    @property
    def hotplug(self) -> bool:
        """Return whether the slot is hot-plug capable."""
        return bool(self.capabilities & 1 << 6)

    @property
    def hotplug_interrupt(self) -> bool:
        """Return whether hot-plug events interrupt."""
        return bool(self.control & 1 << 5)

    @property
    def power_off(self) -> bool:
        """Return whether the power controller has switched the slot off."""
        return self.power_controller and bool(self.control & 1 << 10)

    @property
    def occupied(self) -> bool:
        """Return whether a card is present."""
        return bool(self.status & 1 << 6)


@dataclass(frozen=True, kw_only=True)
class Express:
    """The PCI Express capability of a function."""

    offset: int
    version: int
    type: int  #: a PortType, or a number without one
    max_payload_supported: int  #: as its field has it: 0 is 128 bytes, 1 is 256, …
    max_payload: int
    control: int  #: Device Control
    status: int  #: Device Status
    link: Link | None  #: None where there is none: integrated in the root complex
    slot: Slot | None  #: None on what has no slot
    control_2: int | None  #: Device Control 2; None before version 2

    @property
    def is_root(self) -> bool:
        """Return whether error messages end here."""
        return self.type in (PortType.ROOT_PORT, PortType.EVENT_COLLECTOR)

    @property
    def leads_down(self) -> bool:
        """Return whether a link leads from this port to what is below it."""
        return self.type in (PortType.ROOT_PORT, PortType.DOWNSTREAM)

    @property
    def ari_forwarding(self) -> bool:
        """Return whether the port forwards to every function number (Device Control 2, section 7.5.3.16)."""
        return bool((self.control_2 or 0) & 1 << 5)


def read_express(space: ConfigSpace) -> Express | None:
    """Return the function's PCI Express capability, or None if it has none that fits."""
    found = space.standard.find(capabilities.EXPRESS)
    if not found or not space.fits(found.offset, LENGTH):
        return None
    at = found.offset
    flags = space.u16(at + 2)
    control = space.u16(at + DEVICE_CONTROL_AT)
    slot = _read_slot(space, at, flags)
    return Express(
        offset=at,
        version=flags & 0xF,
        type=flags >> 4 & 0xF,
        max_payload_supported=space.u32(at + 4) & 7,
        max_payload=control >> 5 & 7,
        control=control,
        status=space.u16(at + DEVICE_STATUS_AT),
        link=_read_link(space, at, flags >> 4 & 0xF, slot),
        slot=slot,
        control_2=_read_control_2(space, at, flags & 0xF),
    )


def _read_link(space: ConfigSpace, at: int, port_type: int, slot: Slot | None) -> Link | None:
    if port_type in (PortType.INTEGRATED, PortType.EVENT_COLLECTOR):
        return None
    can, does = space.u32(at + 0x0C), space.u16(at + LINK_STATUS_AT)
    # section 7.5.3.8: both are undefined while the link is not up
    inactive = bool(can & _REPORTS_ACTIVE) and not does & _ACTIVE
    return Link(
        max_speed=can & 0xF,
        max_width=can >> 4 & 0x3F,
        speed=does & 0xF,
        width=does >> 4 & 0x3F,
        down=inactive or bool(does & _TRAINING) or (slot is not None and not slot.occupied),
    )


def _read_slot(space: ConfigSpace, at: int, flags: int) -> Slot | None:
    implemented = flags & 1 << 8 and flags >> 4 & 0xF in (PortType.ROOT_PORT, PortType.DOWNSTREAM)
    if not implemented or not space.fits(at, SLOT_CAPABILITIES_AT + 8):
        return None
    return Slot(
        at=at + SLOT_CAPABILITIES_AT,
        capabilities=space.u32(at + SLOT_CAPABILITIES_AT),
        control=space.u16(at + SLOT_CONTROL_AT),
        status=space.u16(at + SLOT_CONTROL_AT + 2),
    )


def _read_control_2(space: ConfigSpace, at: int, version: int) -> int | None:
    there = version >= 2 and space.fits(at, DEVICE_CONTROL_2_AT + 2)
    return space.u16(at + DEVICE_CONTROL_2_AT) if there else None


def speed_name(speed: int) -> str:
    """Return a link speed as people write it."""
    return f"{_SPEEDS[speed]} GT/s" if speed in _SPEEDS else f"speed {speed}"


def payload_bytes(field: int) -> int:
    """Return the bytes that a Max_Payload_Size field means; 6 and 7 are reserved."""
    return 128 << field

"""What the kernel and the firmware agreed on in ACPI `_OSC`, read from the kernel log, for each host bridge.

Source: Linux drivers/acpi/pci_root.c, negotiate_os_control(); PCI Firmware Specification 3.3, section 4.5. The set the
kernel needs before it asks for any control (ACPI_PCIE_REQ_SUPPORT) has been the same from 3.10 to 7.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from testbed.model.kernel_log import LogRecord
    from testbed.model.pci import Bdf

#: without all of these the kernel asks for no control at all
REQUIRED_SUPPORT = ("ExtendedConfig", "ASPM", "ClockPM", "MSI")

#: the bits of the masks that kernels 3.2 to 3.11 print, and their later names
_SUPPORT_BITS = {0x01: "ExtendedConfig", 0x02: "ASPM", 0x04: "ClockPM", 0x08: "Segments", 0x10: "MSI"}
_CONTROL_BITS = {0x01: "PCIeHotplug", 0x02: "SHPCHotplug", 0x04: "PME", 0x08: "AER", 0x10: "PCIeCapability"}

#: the host bridge a line is about: PNP0A03 is plain PCI, PNP0A08 PCI Express, ACPI0016 CXL; up to 3.11 the root bus
_BRIDGE = re.compile(r"\b(?:(PNP0A0[38]|ACPI0016):([0-9a-fA-F]{2,4})|(pci[0-9a-f]{4}:[0-9a-f]{2})): ")
_ROOT = re.compile(
    r"PCI Root Bridge \[([^\]]{1,16})\] \(domain ([0-9a-f]{4}) \[bus ([0-9a-f]{2})(?:-([0-9a-f]{2}))?\]\)"
)

_LISTS = {
    "supports": re.compile(r"_OSC: OS supports \[([^\]]{0,400})\]"),
    "controls": re.compile(r"_OSC: OS now controls \[([^\]]{0,400})\]"),
    "platform_lacks": re.compile(r"_OSC: platform does not support \[([^\]]{0,400})\]"),
    "requested": re.compile(r"_OSC: OS requested \[([^\]]{0,400})\]"),
    "granted": re.compile(r"_OSC: platform willing to grant \[([^\]]{0,400})\]"),
}
_MASKS = {
    "supports": (re.compile(r"_OSC support mask: 0x([0-9a-fA-F]{1,8})"), _SUPPORT_BITS),
    "requested": (re.compile(r"Requesting ACPI _OSC control \(0x([0-9a-fA-F]{1,8})\)"), _CONTROL_BITS),
    "controls": (re.compile(r"ACPI _OSC control \(0x([0-9a-fA-F]{1,8})\) granted"), _CONTROL_BITS),
}
_PORTS_DISABLED = re.compile(r"PCIe port services disabled; not requesting _OSC control")
_NOT_ASKED = re.compile(r"_OSC: not requesting (?:OS )?control|Unable to request _OSC control")
_FAILED = re.compile(r"_OSC[^(]{0,120} \((AE_[A-Z_]{1,40})\)")
_FIRMWARE_AER = re.compile(r"PCIe AER handled by firmware")


@dataclass(frozen=True, kw_only=True)
class OscNegotiation:
    """The outcome for one host bridge; None where the log has no such line."""

    bridge: str = ""  #: `PNP0A08:00` as the log names it
    root: str = ""  #: its ACPI name, `PCI0`; empty where the log does not say
    domain: int = 0
    buses: tuple[int, int] | None = None  #: first and last bus below it
    supports: tuple[str, ...] | None = None  #: features the OS said it has
    controls: tuple[str, ...] | None = None  #: features the OS got
    requested: tuple[str, ...] | None = None  #: features the OS asked for, where that failed
    granted: tuple[str, ...] | None = None  #: features the platform would have given
    platform_lacks: tuple[str, ...] = ()  #: features the platform does not hand over
    not_requested: bool = False  #: the OS asked for nothing
    ports_disabled: bool = False  #: the OS asked for nothing because it was told to (pcie_ports=compat)
    firmware_aer: bool = False  #: the OS left AER to the firmware, as ACPI HEST says (up to 5.7)
    failure: str = ""  #: `AE_*` with which the method failed
    references: tuple[str, ...] = ()  #: the lines this was read from
    cited: tuple[tuple[str, str], ...] = ()  #: each fact's name and the line it stands in

    @property
    def missing_support(self) -> tuple[str, ...]:
        """Return the required bits the OS did not claim, which is why it asked for nothing."""
        if self.supports is None:
            return ()
        return tuple(bit for bit in REQUIRED_SUPPORT if bit not in self.supports)

    @property
    def native_hotplug(self) -> bool:
        """Return whether the OS got PCIe native hot-plug."""
        return "PCIeHotplug" in (self.controls or ())

    @property
    def is_express(self) -> bool:
        """Return whether the bridge says that it is a PCI Express one; True where the log does not name it."""
        return not self.bridge.startswith("PNP0A03")

    def where(self, *facts: str) -> tuple[str, ...]:
        """Return the lines in which these facts stand; the first line of all where none is known."""
        known = dict(self.cited)
        return tuple(dict.fromkeys(known[fact] for fact in facts if fact in known)) or self.references[:1]

    def is_above(self, address: Bdf) -> bool:
        """Return whether the function stands below this bridge."""
        if self.buses is None:
            return False
        return self.domain == address.domain and self.buses[0] <= address.bus <= self.buses[1]


def read_bridges(records: Iterable[LogRecord]) -> tuple[OscNegotiation, ...]:
    """Read the negotiation of every host bridge from kernel log records, in the log's order."""
    bridges: dict[str, OscNegotiation] = {}
    announced = OscNegotiation()
    for record in records:
        if match := _ROOT.search(record.text):
            announced = _announced(match)
        elif said := _read_line(record.text):
            name = _bridge_name(record.text)
            if name not in bridges:
                bridges[name] = replace(announced, bridge=name)
                announced = OscNegotiation()
            bridges[name] = _with(bridges[name], said, record.reference)
    return tuple(bridges.values())


def read_osc(records: Iterable[LogRecord]) -> OscNegotiation:
    """Read the negotiation of the first host bridge from kernel log records."""
    return next(iter(read_bridges(records)), OscNegotiation())


def bridge_above(bridges: Sequence[OscNegotiation], address: Bdf) -> OscNegotiation:
    """Return the bridge a function stands below; the first one where the log does not tell."""
    above = [bridge for bridge in bridges if bridge.is_above(address)]
    return next(iter([*above, *bridges]), OscNegotiation())


def _announced(match: re.Match[str]) -> OscNegotiation:
    """Return a bridge of which only the root bus is known."""
    first = int(match[3], 16)
    last = int(match[4], 16) if match[4] else first
    return OscNegotiation(root=match[1], domain=int(match[2], 16), buses=(first, last))


def _with(osc: OscNegotiation, said: dict[str, Any], reference: str) -> OscNegotiation:
    """Return the negotiation with what one more line says; what was said first stands."""
    known = dict(osc.cited)
    new = {fact: value for fact, value in said.items() if fact not in known}
    cited = (*osc.cited, *((fact, reference) for fact in new))
    return replace(osc, **new, references=(*osc.references, reference), cited=cited)


def _bridge_name(text: str) -> str:
    match = _BRIDGE.search(text)
    if not match:
        return ""
    return match[3] or f"{match[1]}:{match[2]}"


def _read_line(text: str) -> dict[str, Any]:
    """Return what one line says of a negotiation; nothing for any other line."""
    if "_OSC" not in text:
        return {"firmware_aer": True} if _FIRMWARE_AER.search(text) else {}
    said: dict[str, Any] = {}
    for fact, pattern in _LISTS.items():
        match = pattern.search(text)
        # since 6.0 a CXL bridge prints each list twice, the second one of CXL features only
        if match and not match[1].startswith("CXL"):
            said[fact] = tuple(match[1].split())
    for fact, (pattern, bits) in _MASKS.items():
        if match := pattern.search(text):
            mask = int(match[1], 16)
            said[fact] = tuple(name for bit, name in bits.items() if mask & bit)
    if _PORTS_DISABLED.search(text):
        said |= {"not_requested": True, "ports_disabled": True}
    elif _NOT_ASKED.search(text):
        said["not_requested"] = True
    if match := _FAILED.search(text):
        said["failure"] = match[1]
    return said

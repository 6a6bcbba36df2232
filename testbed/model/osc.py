"""What the kernel and the firmware agreed on in ACPI `_OSC`, read from the kernel log, for each host bridge.

Source: Linux drivers/acpi/pci_root.c, acpi_pci_root_add() up to 3.11 and negotiate_os_control() since, with
acpi_pci_osc_control_set() and acpi_run_osc(); PCI Firmware Specification 3.3, section 4.5. The set the kernel needs
before it asks for any control (ACPI_PCIE_REQ_SUPPORT) has been the same from 3.10 to 7.1.

How it may end, beside well:

* the firmware fails the call by which Linux tells what it supports: "support notification failed" and a mask of the
  base flags up to 3.11, "_OSC failed (AE_ERROR)" without "OS requested" up to 5.10;
* the bridge has no `_OSC` method: the same words, with AE_NOT_FOUND where the status is printed. Where the method is
  there and fails, ACPICA's own messages name it, or acpi_run_osc()'s "_OSC invalid UUID" does;
* the platform does not grant PCIeCapability, and Linux requests nothing then: AE_SUPPORT is the kernel's own status;
* Linux requests nothing, since it lacks a feature itself, or its port services are disabled.
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
    "controls": re.compile(r"_OSC: OS (?:now controls|assumes control of) \[([^\]]{0,400})\]"),
    "platform_lacks": re.compile(r"_OSC: platform does not support \[([^\]]{0,400})\]"),
    "requested": re.compile(r"_OSC: OS requested \[([^\]]{0,400})\]"),
    "granted": re.compile(r"_OSC: platform willing to grant \[([^\]]{0,400})\]"),
    "not_granted": re.compile(r"_OSC: not requesting control; platform does not support \[([^\]]{0,400})\]"),
}
_MASKS = {
    "supports": (re.compile(r"_OSC support mask: 0x([0-9a-fA-F]{1,8})"), _SUPPORT_BITS),
    "requested": (re.compile(r"Requesting ACPI _OSC control \(0x([0-9a-fA-F]{1,8})\)"), _CONTROL_BITS),
    "controls": (re.compile(r"ACPI _OSC control \(0x([0-9a-fA-F]{1,8})\) granted"), _CONTROL_BITS),
    "granted": (re.compile(r"returned control mask: 0x([0-9a-fA-F]{1,8})"), _CONTROL_BITS),
}
_FLAGS = {
    "ports_disabled": re.compile(r"PCIe port services disabled; not requesting _OSC control"),
    "not_requested": re.compile(
        r"_OSC: not requesting (?:OS )?control|Unable to request _OSC control|not requesting _OSC control"
    ),
    "support_failed": re.compile(r"ACPI _OSC support notification failed"),
    # 2.6.3x, without a status
    "request_failed": re.compile(r"Unable to assume (?:_OSC )?PCIe control|ACPI _OSC request failed"),
    "firmware_aer": re.compile(r"PCIe AER handled by firmware"),
    "assumed": re.compile(r"_OSC: OS assumes control of"),
}
_STATUS = re.compile(
    r"(?:_OSC failed|_OSC: platform retains control of PCIe features|_OSC request failed) \((AE_[A-Z_]{1,40})\)"
)
#: what a line about a negotiation has; only then it is looked at
_MARKS = ("_OSC", "PCIe control", "AER handled by firmware")
#: a host bridge's `_OSC` that was run and failed; \\_SB's own is another one
_METHOD_FAILED = re.compile(
    r"\\_SB_?((?:\.\w{1,4}){1,8})(?:\._OSC\b|(?: \([0-9A-Fa-f-]{36}\))?: ?_OSC (?:invalid|evaluation|request is))"
)


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
    not_granted: tuple[str, ...] = ()  #: features without which the OS requests nothing, and the platform keeps
    not_requested: bool = False  #: the OS asked for nothing
    ports_disabled: bool = False  #: the OS asked for nothing because it was told to (pcie_ports=compat)
    assumed: bool = False  #: Apple's firmware, which is not asked: Linux takes all but PME
    firmware_aer: bool = False  #: the OS left AER to the firmware, as ACPI HEST says (up to 5.7)
    support_failed: bool = False  #: the firmware failed the call that tells it what the OS supports (up to 3.11)
    request_failed: bool = False  #: what the OS requested was not granted (up to 3.11)
    failure: str = ""  #: `AE_*` with which the negotiation ended
    method_failed: bool = False  #: the firmware has the method, and it failed when it was run
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
        """Return the lines that hold these facts; the first line of all where none is known."""
        known = dict(self.cited)
        return tuple(dict.fromkeys(known[fact] for fact in facts if fact in known)) or self.references[:1]

    def is_above(self, address: Bdf) -> bool:
        """Return whether the function is below this bridge."""
        if self.buses is None:
            return False
        return self.domain == address.domain and self.buses[0] <= address.bus <= self.buses[1]


def read_bridges(records: Iterable[LogRecord]) -> tuple[OscNegotiation, ...]:
    """Read the negotiation of every host bridge from kernel log records, in the log's order."""
    bridges: dict[str, OscNegotiation] = {}
    failed: dict[str, str] = {}
    announced, name = OscNegotiation(), ""
    for record in records:
        if match := _ROOT.search(record.text):
            announced = _announced(match)
        elif match := _METHOD_FAILED.search(record.text):
            failed.setdefault(match[1].rpartition(".")[2], record.reference)
        elif facts := _read_line(record.text):
            # a line that names no bridge goes on with the one before
            name = _bridge_name(record.text) or name
            if name not in bridges:
                bridges[name] = replace(announced, bridge=name)
                announced = OscNegotiation()
            bridges[name] = _with(bridges[name], facts, record.reference)
    return tuple(_with_failure(each, failed) for each in bridges.values())


def bridge_above(bridges: Sequence[OscNegotiation], address: Bdf) -> OscNegotiation:
    """Return the bridge above a function; the first one where the log does not tell."""
    above = [bridge for bridge in bridges if bridge.is_above(address)]
    return next(iter([*above, *bridges]), OscNegotiation())


def _announced(match: re.Match[str]) -> OscNegotiation:
    """Return a bridge of which only the root bus is known."""
    first = int(match[3], 16)
    last = int(match[4], 16) if match[4] else first
    return OscNegotiation(root=match[1], domain=int(match[2], 16), buses=(first, last))


def _with(osc: OscNegotiation, facts: dict[str, Any], reference: str) -> OscNegotiation:
    """Return the negotiation with what one more line says; what was said first stands.

    What the platform lacks is told in steps: Linux asks for less until it is granted all it asks for.
    """
    known = dict(osc.cited)
    if "platform_lacks" in known and "platform_lacks" in facts:
        lacks = dict.fromkeys((*osc.platform_lacks, *facts["platform_lacks"]))
        osc = replace(osc, platform_lacks=tuple(lacks))
    new = {fact: value for fact, value in facts.items() if fact not in known}
    cited = (*osc.cited, *((fact, reference) for fact in new))
    return replace(osc, **new, references=(*osc.references, reference), cited=cited)


def _with_failure(osc: OscNegotiation, failed: dict[str, str]) -> OscNegotiation:
    """Return the negotiation with the failure of its method, if ACPI told of one."""
    reference = failed.get(osc.root) or (next(iter(failed.values()), "") if not osc.root else "")
    return _with(osc, {"method_failed": True}, reference) if reference else osc


def _bridge_name(text: str) -> str:
    match = _BRIDGE.search(text)
    if not match:
        return ""
    return match[3] or f"{match[1]}:{match[2]}"


def _read_line(text: str) -> dict[str, Any]:
    """Return what one line says of a negotiation; nothing for any other line."""
    if not any(mark in text for mark in _MARKS):
        return {}
    facts: dict[str, Any] = {name: True for name, pattern in _FLAGS.items() if pattern.search(text)}
    for name, pattern in _LISTS.items():
        match = pattern.search(text)
        # since 6.0 a CXL bridge prints each list twice, the second one of CXL features only
        if match and not match[1].startswith("CXL"):
            facts[name] = tuple(match[1].split())
    for name, (pattern, bits) in _MASKS.items():
        if match := pattern.search(text):
            mask = int(match[1], 16)
            facts[name] = tuple(feature for bit, feature in bits.items() if mask & bit)
    if match := _STATUS.search(text):
        facts["failure"] = match[1]
    return facts

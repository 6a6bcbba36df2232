"""What the kernel and the firmware agreed on in ACPI `_OSC`, read from the kernel log.

Source: Linux drivers/acpi/pci_root.c, negotiate_os_control(); PCI Firmware Specification 3.3, section 4.5. The set the
kernel needs before it asks for any control (ACPI_PCIE_REQ_SUPPORT) has been the same from 3.10 to 7.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.model.kernel_log import LogRecord

#: without all of these the kernel asks for no control at all
REQUIRED_SUPPORT = ("ExtendedConfig", "ASPM", "ClockPM", "MSI")

_SUPPORTS = re.compile(r"_OSC: OS supports \[([^\]]*)\]")
_CONTROLS = re.compile(r"_OSC: OS now controls \[([^\]]*)\]")
_REFUSED = re.compile(r"_OSC: platform does not support \[([^\]]*)\]")
_NOT_ASKED = re.compile(r"_OSC: not requesting (?:OS )?control|not requesting _OSC control")


@dataclass(frozen=True, kw_only=True)
class OscNegotiation:
    """The outcome for one host bridge; None where the log has no such line."""

    supports: tuple[str, ...] | None = None  #: features the OS said it has
    controls: tuple[str, ...] | None = None  #: features the OS got
    platform_lacks: tuple[str, ...] = ()  #: features the platform does not hand over
    not_requested: bool = False  #: the OS asked for nothing
    references: tuple[str, ...] = ()  #: the lines this was read from

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


def read_osc(records: Iterable[LogRecord]) -> OscNegotiation:
    """Read the negotiation of the first host bridge from kernel log records."""
    supports = controls = None
    lacks: tuple[str, ...] = ()
    not_requested = False
    references = []
    for record in records:
        if match := _SUPPORTS.search(record.text):
            supports = supports or tuple(match[1].split())
        elif match := _CONTROLS.search(record.text):
            controls = controls or tuple(match[1].split())
        elif match := _REFUSED.search(record.text):
            lacks = lacks or tuple(match[1].split())
        elif _NOT_ASKED.search(record.text):
            not_requested = True
        else:
            continue
        references.append(record.reference)
    return OscNegotiation(
        supports=supports,
        controls=controls,
        platform_lacks=lacks,
        not_requested=not_requested,
        references=tuple(references),
    )

"""Rules about the PCI Express capability: payload, link, slot, and what is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.lint.rule import Hit, error, note
from testbed.model.config_space import COMMAND_SERR
from testbed.model.express import (
    DEVICE_CONTROL_AT,
    DEVICE_STATUS_AT,
    LINK_STATUS_AT,
    REPORTS,
    payload_bytes,
    speed_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.lint.function import Function, Topology
    from testbed.model.express import Express, Slot


def _of_its_own(function: Function) -> Express | None:
    """Return a function's registers, or None of a VF: most of its are the PF's."""
    return None if function.has_vf_ids else function.express


@error(
    "pcie-payload",
    satisfy="Max_Payload_Size is at most Max_Payload_Size Supported",
    source="PCIe Base 6.3, 7.5.3.3 and 7.5.3.4",
    mend="boot Linux with pci=pcie_bus_safe, or have the firmware set what the function supports",
)
def pcie_payload(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a payload size that the function does not support."""
    express = _of_its_own(function)
    if express and express.max_payload > express.max_payload_supported:
        size, supported = payload_bytes(express.max_payload), payload_bytes(express.max_payload_supported)
        message = f"Max_Payload_Size is {size}, and the function supports {supported} bytes"
        yield Hit(message=message, at=express.offset + DEVICE_CONTROL_AT)


@error(
    "pcie-payload-path",
    satisfy="no function sends larger payloads than the port above accepts",
    source="PCIe Base 6.3, 7.5.3.4: a larger one is a Malformed TLP to its receiver",
    mend="boot Linux with pci=pcie_bus_safe: it sets one size from the port down",
)
def pcie_payload_path(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a function that may send what the port above has to refuse."""
    express, above = _of_its_own(function), topology.bridge_above(function)
    if express and above and above.express and express.max_payload > above.express.max_payload:
        size, limit = payload_bytes(express.max_payload), payload_bytes(above.express.max_payload)
        message = f"Max_Payload_Size is {size}, that of {above.name} above is {limit} bytes"
        yield Hit(message=message, at=express.offset + DEVICE_CONTROL_AT)


@error(
    "pcie-link",
    satisfy="the current speed and width are at most the maximum of Link Capabilities",
    source="PCIe Base 6.3, 7.5.3.6 and 7.5.3.8",
)
def pcie_link(function: Function, topology: Topology) -> Iterator[Hit]:
    """Find a link that runs faster or wider than it can; one that is down has neither speed nor width."""
    express = _of_its_own(function)
    if not express or not express.link or express.link.down:
        return
    link, at = express.link, express.offset + LINK_STATUS_AT
    # a maximum of 0 is no maximum: functions inside the chipset leave these registers out
    if link.speed > link.max_speed > 0:
        yield Hit(
            message=f"the link runs at {speed_name(link.speed)}, its maximum is {speed_name(link.max_speed)}", at=at
        )
    if link.width > link.max_width > 0:
        yield Hit(message=f"the link is x{link.width}, its maximum is x{link.max_width}", at=at)


@note("error-reporting", source="PCIe Base 6.3, 6.2.6 and 7.5.3.4")
def error_reporting(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say which classes of errors a function does not report."""
    express = _of_its_own(function)
    if not express:
        return
    off = [name for bit, name in REPORTS if not express.control & 1 << bit]
    serr = bool(function.space.command & COMMAND_SERR)
    # SERR# Enable is or-ed with two of the bits
    silent = [name for name in off if not (serr and name in ("non-fatal", "fatal"))]
    if silent:
        message = f"Device Control does not report: {', '.join(off)}; SERR# Enable is {'on' if serr else 'off'}"
        still = "; non-fatal and fatal are reported through it" if len(silent) < len(off) else ""
        yield Hit(message=message + still, at=express.offset + DEVICE_CONTROL_AT)


@note("errors-detected", source="PCIe Base 6.3, 7.5.3.5")
def errors_detected(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say which classes of errors Device Status has seen."""
    express = function.express
    classes = [name for bit, name in REPORTS if express and express.status & 1 << bit]
    if express and classes:
        yield Hit(message=f"Device Status has seen: {', '.join(classes)}", at=express.offset + DEVICE_STATUS_AT)


@note("slot", source="PCIe Base 6.3, 7.5.3.9 to 7.5.3.11")
def slot(function: Function, topology: Topology) -> Iterator[Hit]:
    """Say what a port's slot can do, and in what state it is."""
    if function.express and function.express.slot:
        yield Hit(message=_describe(function.express.slot), at=function.express.slot.at)


def _describe(slot: Slot) -> str:
    facts = {
        "occupied": slot.occupied,
        "hot-plug capable": slot.hotplug,
        "surprise removal": slot.hotplug and slot.surprise,
        "attention button": slot.attention_button,
        "hot-plug interrupt off": slot.hotplug and not slot.hotplug_interrupt,
        "power switched off": slot.power_off,
    }
    return f"slot {slot.number}: {', '.join(name for name, true in facts.items() if true) or 'empty'}"


RULES = (pcie_payload, pcie_payload_path, pcie_link, error_reporting, errors_detected, slot)

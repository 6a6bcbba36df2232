"""Who serves the hot-plug slots below a host bridge: pciehp, acpiphp, nobody; and why pciehp may not."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.explain.handover import by_osc, is_kept, kept_at, no_portdrv, not_asked, unknown
from testbed.explain.holder import Control, Holder, row
from testbed.explain.refusal import refusal
from testbed.explain.service import CITED, HOTPLUG, Signs, counted
from testbed.explain.suspect import NATIVE, NO_ACPIPHP, NO_PORTDRV, Cause, Suspect, option, takes_ports_natively

if TYPE_CHECKING:
    from testbed.explain.evidence import Evidence
    from testbed.model.kernel_log import LogRecord
    from testbed.model.osc import OscNegotiation

_ACPI_SLOT = re.compile(r"^acpiphp: Slot \[([^\]]{1,40})\] registered")
_ROOT = re.compile(r"PCI Root Bridge \[([^\]]{1,16})\]")
_PRESENT_NOT = re.compile(r"pciehp.{0,60}Slot\([^)]{1,20}\):? (?:Card not present|Already disabled)")


def hotplug_control(evidence: Evidence, osc: OscNegotiation, signs: Signs) -> Control:
    """Return who has hot-plug below a host bridge."""
    if takes_ports_natively(evidence):
        return _taken(evidence, osc)
    cause = unserved(evidence, osc)
    if cause is None:
        return by_osc(HOTPLUG, osc) if osc.native_hotplug else unknown(HOTPLUG, osc, signs)
    slots = acpi_slots(evidence, osc)
    if slots:
        text = f"{cause.text}; acpiphp registered {counted(len(slots), 'slot')} and needs no _OSC control"
        cited = (*cause.evidence, *(record.reference for record in slots[:CITED]))
        # only the slots' driver is reported here; other costs of the cause have their own rows
        return row(HOTPLUG, Holder.ACPI, text, cited, driver="acpiphp")
    if _has_no_slot(evidence, osc):
        text = f"{cause.text}; lspci shows no hot-pluggable slot there"
        return row(HOTPLUG, Holder.NOBODY, text, cause.evidence)
    return _without_acpi_slot(evidence, cause)


def acpi_slots(evidence: Evidence, osc: OscNegotiation) -> list[LogRecord]:
    """Return the lines in which acpiphp registered the slots below a host bridge."""
    if evidence.log is None:
        return []
    found, root = [], ""
    for record in evidence.log.records:
        if match := _ROOT.search(record.text):
            root = match[1]
        elif _ACPI_SLOT.match(record.text) and osc.root in ("", root):
            found.append(record)
    return found


def unserved(evidence: Evidence, osc: OscNegotiation) -> Cause | None:
    """Return why pciehp may not serve a slot below a host bridge; None if nothing known keeps it from that."""
    if evidence.has(NO_PORTDRV):
        return no_portdrv(evidence)
    cause = refusal(osc, evidence)
    if cause is not None:
        return cause
    if is_kept(HOTPLUG, osc):
        return _kept_by_platform(evidence, osc)
    if osc.controls is not None and not osc.native_hotplug:
        return not_asked(HOTPLUG, osc)
    return None


def unserved_by_acpi(evidence: Evidence) -> Cause | None:
    """Return why acpiphp may not serve a slot; None if nothing known keeps it from that."""
    if not evidence.has(NO_ACPIPHP):
        return None
    suspect = option(NO_ACPIPHP, evidence.cmdline_lines)
    return Cause(text="acpiphp is off", evidence=suspect.evidence, suspects=(suspect,))


def _without_acpi_slot(evidence: Evidence, cause: Cause) -> Control:
    """Report hot-plug that is not pciehp's, where no line says that acpiphp registered a slot."""
    suspects = (*cause.suspects, *_acpiphp_off(evidence, cause))
    if evidence.has(NO_ACPIPHP):
        text = cause.text if "acpiphp is off" in cause.text else f"{cause.text}, and acpiphp is off"
        return row(HOTPLUG, Holder.NOBODY, text, cause.evidence, suspects=suspects)
    complete = evidence.log.complete_by if evidence.log else ()
    if not complete:
        text = f"{cause.text}; these files do not show whether acpiphp registered a slot"
        return row(HOTPLUG, Holder.UNKNOWN, text, cause.evidence, suspects=suspects)
    text = f"{cause.text}; acpiphp registered no slot, in a log that runs from the boot's first line past the bus scan"
    return row(HOTPLUG, Holder.NOBODY, text, (*cause.evidence, *complete), suspects=suspects)


def _taken(evidence: Evidence, osc: OscNegotiation) -> Control:
    """Report pcie_ports=native: a remedy where Linux asked for nothing, a trap where the platform serves the slots."""
    cited = evidence.cmdline_lines
    text = f"{NATIVE}: the port services run whatever _OSC says"
    ghosts = evidence.log.find(_PRESENT_NOT) if evidence.log else []
    if HOTPLUG.bit in osc.platform_lacks and (evidence.is_qemu or ghosts):
        text = f"{NATIVE}: pciehp runs, but the platform keeps {HOTPLUG.bit} and serves the slots through ACPI"
        places = (*cited, *osc.where("platform_lacks"), *(record.reference for _, record in ghosts[:CITED]))
        return row(HOTPLUG, Holder.LINUX, text, places, suspects=(option(NATIVE, places),))
    return row(HOTPLUG, Holder.LINUX, text, cited)


def _kept_by_platform(evidence: Evidence, osc: OscNegotiation) -> Cause:
    cited = kept_at(osc)
    text = f"the platform keeps {HOTPLUG.bit} to itself"
    if evidence.has(NO_ACPIPHP):
        suspect = option(NO_ACPIPHP, (*evidence.cmdline_lines, *cited))
        return Cause(text=f"{text}, and acpiphp is off", evidence=cited, suspects=(suspect,))
    return Cause(text=text, evidence=cited)


def _acpiphp_off(evidence: Evidence, cause: Cause) -> tuple[Suspect, ...]:
    """Suspect acpiphp.disable=1 where acpiphp would serve the slots; where Linux asked for nothing that is not sure."""
    if not evidence.has(NO_ACPIPHP) or NO_ACPIPHP in cause.options:
        return ()
    return (option(NO_ACPIPHP, (*evidence.cmdline_lines, *cause.evidence), seen=cause.normal),)


def _has_no_slot(evidence: Evidence, osc: OscNegotiation) -> bool:
    """Return whether lspci shows of every bridge what is behind it, and no hot-plug slot below a host bridge."""
    if evidence.pci is None or not evidence.pci.is_whole or not all(each.shows_slot for each in evidence.pci.bridges):
        return False
    return not [port for port in evidence.pci.slots if osc.buses is None or osc.is_above(port.address)]

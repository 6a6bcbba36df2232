"""Who controls hot-plug, AER, PME and their like below each host bridge, and why."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from testbed.explain.service import AER, CITED, DPC, HOTPLUG, LTR, MAIN, OTHERS, SHPC, Seen, Service, counted, look
from testbed.explain.suspect import (
    COMPAT,
    NATIVE,
    NO_ACPI,
    NO_ACPIPHP,
    NO_AER,
    NO_PORTDRV,
    Blame,
    Cause,
    Suspect,
    effects_given,
    option,
    refusal,
    takes_ports_natively,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.explain.evidence import Evidence
    from testbed.model.kernel_log import LogRecord
    from testbed.model.osc import OscNegotiation

_ACPI_SLOT = re.compile(r"^acpiphp: Slot \[([^\]]{1,40})\] registered")
_ROOT = re.compile(r"PCI Root Bridge \[([^\]]{1,16})\]")
_PRESENT_NOT = re.compile(r"pciehp.{0,60}Slot\([^)]{1,20}\):? (?:Card not present|Already disabled)")


class Holder(enum.StrEnum):
    """Who has a service."""

    LINUX = "Linux"
    ACPI = "ACPI"  #: the platform, with acpiphp doing its work in Linux
    PLATFORM = "platform"
    NOBODY = "nobody"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Control:
    """Who has one service below one host bridge."""

    bridge: str
    service: str
    holder: Holder
    driver: str
    why: str
    evidence: tuple[str, ...]
    suspects: tuple[Suspect, ...] = ()


def controls(evidence: Evidence) -> tuple[Control, ...]:
    """Return who has what, for each host bridge the log tells of, else for the machine as a whole."""
    if not evidence.bridges:
        return tuple(_undecided(service, evidence) for service in MAIN)
    return tuple(
        _control(service, evidence, osc)
        for osc in evidence.bridges
        for service in (*MAIN, *OTHERS)
        if _shown(service, osc)
    )


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
        return _no_portdrv(evidence)
    cause = refusal(osc, evidence)
    if cause is not None:
        return cause
    if HOTPLUG.bit in osc.platform_lacks:
        return _kept_by_platform(evidence, osc)
    if osc.controls is not None and not osc.native_hotplug:
        return _not_asked(HOTPLUG, osc)
    return None


def unserved_by_acpi(evidence: Evidence) -> Cause | None:
    """Return why acpiphp may not serve a slot; None if nothing known keeps it from that."""
    if not evidence.has(NO_ACPIPHP):
        return None
    suspect = option(NO_ACPIPHP, _cmdline_at(evidence))
    return Cause(text="acpiphp is off", evidence=suspect.evidence, suspects=(suspect,))


def _no_portdrv(evidence: Evidence) -> Cause:
    suspect = option(NO_PORTDRV, _cmdline_at(evidence))
    return Cause(text="the PCIe port driver was kept from starting", evidence=suspect.evidence, suspects=(suspect,))


def _shown(service: Service, osc: OscNegotiation) -> bool:
    named = (*(osc.controls or ()), *osc.platform_lacks, *(osc.requested or ()))
    return service in MAIN or service.bit in named


def _control(service: Service, evidence: Evidence, osc: OscNegotiation) -> Control:
    seen = look(service, evidence, osc)
    told = _hotplug(evidence, osc, seen) if service is HOTPLUG else _other(service, evidence, osc)
    told = replace(
        told, bridge=name_of(osc), suspects=tuple(replace(each, takes=(service.name,)) for each in told.suspects)
    )
    if told.holder is Holder.LINUX and seen.running:
        agrees, cited = seen.running, seen.running_at
    else:
        agrees, cited = seen.absent, seen.absent_at
    why = "; ".join([told.why, *agrees])
    return replace(told, why=why, evidence=tuple(dict.fromkeys([*told.evidence, *cited])))


def name_of(osc: OscNegotiation) -> str:
    """Return what a host bridge is called in the table."""
    if not osc.buses:
        return osc.bridge or "host bridge"
    return f"{osc.bridge} {osc.root}, bus {osc.domain:04x}:{osc.buses[0]:02x}-{osc.buses[1]:02x}"


def _hotplug(evidence: Evidence, osc: OscNegotiation, seen: Seen) -> Control:
    if takes_ports_natively(evidence):
        return _taken(evidence, osc)
    cause = unserved(evidence, osc)
    if cause is None:
        return _by_osc(HOTPLUG, osc) if osc.native_hotplug else _unknown(HOTPLUG, osc, seen)
    slots = acpi_slots(evidence, osc)
    if slots:
        text = f"{cause.text}; acpiphp registered {counted(len(slots), 'slot')} and needs no _OSC control"
        cited = (*cause.evidence, *(record.reference for record in slots[:CITED]))
        return _row(HOTPLUG, Holder.ACPI, text, cited, driver="acpiphp")
    if _has_no_slot(evidence, osc):
        text = f"{cause.text}; lspci shows no slot there that can be hot-plugged"
        return _row(HOTPLUG, Holder.NOBODY, text, cause.evidence)
    text = f"{cause.text}; acpiphp registered no slot"
    return _row(
        HOTPLUG, Holder.NOBODY, text, cause.evidence, suspects=(*cause.suspects, *_acpiphp_off(evidence, cause))
    )


def _taken(evidence: Evidence, osc: OscNegotiation) -> Control:
    """Tell of pcie_ports=native: a remedy where Linux asked for nothing, a trap where the platform serves the slots."""
    cited = _cmdline_at(evidence)
    text = f"{NATIVE}: the port services run whatever _OSC says"
    ghosts = evidence.log.find(_PRESENT_NOT) if evidence.log else []
    if HOTPLUG.bit in osc.platform_lacks and (evidence.is_qemu or ghosts):
        text = f"{NATIVE}: pciehp runs, but the platform keeps {HOTPLUG.bit} and serves the slots through ACPI"
        seen = (*cited, *osc.where("platform_lacks"), *(record.reference for _, record in ghosts[:CITED]))
        return _row(HOTPLUG, Holder.LINUX, text, seen, suspects=(option(NATIVE, seen),))
    return _row(HOTPLUG, Holder.LINUX, text, cited)


def _kept_by_platform(evidence: Evidence, osc: OscNegotiation) -> Cause:
    cited = osc.where("platform_lacks")
    text = f"the platform keeps {HOTPLUG.bit} to itself"
    if evidence.has(NO_ACPIPHP):
        suspect = option(NO_ACPIPHP, (*_cmdline_at(evidence), *cited))
        return Cause(text=f"{text}, and acpiphp is off", evidence=cited, suspects=(suspect,))
    return Cause(text=text, evidence=cited)


def _acpiphp_off(evidence: Evidence, cause: Cause) -> tuple[Suspect, ...]:
    """Suspect acpiphp.disable=1 where acpiphp would serve the slots; where Linux asked for nothing that is not sure."""
    if not evidence.has(NO_ACPIPHP) or NO_ACPIPHP in cause.options:
        return ()
    return (option(NO_ACPIPHP, (*_cmdline_at(evidence), *cause.evidence), seen=cause.normal),)


def _has_no_slot(evidence: Evidence, osc: OscNegotiation) -> bool:
    """Return whether lspci was allowed to look and shows no hot-plug slot below a host bridge."""
    if evidence.pci is None or not evidence.pci.is_whole or not any(port.is_verbose for port in evidence.pci.functions):
        return False
    return not [port for port in evidence.pci.slots if osc.buses is None or osc.is_above(port.address)]


def _other(service: Service, evidence: Evidence, osc: OscNegotiation) -> Control:
    """Tell of a service that either Linux has, or the platform."""
    told = _by_option(service, evidence, osc) if service in MAIN else None
    if told is not None:
        return told
    if service.bit in (osc.controls or ()):
        return _by_osc(service, osc)
    return _left(service, evidence, osc)


def _by_option(service: Service, evidence: Evidence, osc: OscNegotiation) -> Control | None:
    """Tell of a port service that an option decides on, whatever `_OSC` says."""
    if service is AER and evidence.has(NO_AER):
        cited = (*_cmdline_at(evidence), *osc.where("controls", "not_requested"))
        return _row(service, Holder.NOBODY, "AER is turned off", cited, suspects=(option(NO_AER, cited),))
    if takes_ports_natively(evidence):
        return _row(service, Holder.LINUX, f"{NATIVE}: the port services run whatever _OSC says", _cmdline_at(evidence))
    if evidence.has(NO_PORTDRV):
        return _of_cause(service, _no_portdrv(evidence))
    return None


def _left(service: Service, evidence: Evidence, osc: OscNegotiation) -> Control:
    """Tell of a service that Linux did not get."""
    if service is AER and osc.firmware_aer:
        text = "the firmware handles errors first, as its HEST table says"
        return _row(service, Holder.PLATFORM, text, osc.where("firmware_aer"))
    if service.bit in osc.platform_lacks:
        usual = ", as it is with QEMU" if service in (LTR, DPC) and evidence.is_qemu else ""
        text = f"the platform keeps {service.bit} to itself{usual}"
        return _row(service, Holder.PLATFORM, text, osc.where("platform_lacks"))
    cause = refusal(osc, evidence)
    if cause is not None:
        return _of_cause(service, cause)
    if osc.controls is not None:
        return _of_cause(service, _not_asked(service, osc))
    return _unknown(service, osc, Seen())


def _not_asked(service: Service, osc: OscNegotiation) -> Cause:
    cited = osc.where("controls")
    text = f"Linux got other control and did not ask for {service.bit}"
    if service in (SHPC, LTR, DPC):
        return Cause(text=text, evidence=cited, normal=True)
    suspect = Suspect(
        name=f"{service.config} is not set", blame=Blame.KERNEL, why="such a kernel never asks for it", evidence=cited
    )
    return Cause(text=text, evidence=cited, suspects=(suspect,))


def _of_cause(service: Service, cause: Cause) -> Control:
    holder = Holder.NOBODY if cause.normal else Holder.PLATFORM
    return _row(service, holder, cause.text, cause.evidence, suspects=cause.suspects)


def _by_osc(service: Service, osc: OscNegotiation) -> Control:
    return _row(service, Holder.LINUX, f"the platform handed over {service.bit}", osc.where("controls"))


def _unknown(service: Service, osc: OscNegotiation, seen: Seen) -> Control:
    if seen.running:
        return _row(service, Holder.LINUX, "; ".join(seen.running), seen.running_at)
    return _row(service, Holder.UNKNOWN, "the log does not show how the negotiation ended", osc.references)


def _undecided(service: Service, evidence: Evidence) -> Control:
    """Tell what can be told without any line about `_OSC`."""
    seen = look(service, evidence, None)
    acpi = next((name for name in NO_ACPI if evidence.has(name)), "")
    if seen.running:
        text = "; ".join([f"{acpi}: no _OSC, so Linux takes it", *seen.running] if acpi else seen.running)
        return _row(service, Holder.LINUX, text, (*(_cmdline_at(evidence) if acpi else ()), *seen.running_at))
    if acpi and service is AER:
        text = "; ".join([f"{acpi}: no _OSC and no ECAM, without which AER cannot be reached", *seen.absent])
        suspects = _known_takers(service, evidence, seen)
        return _row(service, Holder.NOBODY, text, suspects[0].evidence, suspects=suspects)
    if _has_no_port(evidence):
        return _without_ports(service, evidence)
    holder, reason = _absent(service, evidence, seen)
    suspects = () if holder is Holder.ACPI else _known_takers(service, evidence, seen)
    cited = tuple(dict.fromkeys(place for suspect in suspects for place in suspect.evidence))
    return _row(service, holder, reason, (*seen.absent_at, *cited), suspects=suspects)


def _without_ports(service: Service, evidence: Evidence) -> Control:
    text = "lspci shows no PCI Express port"
    named = [line for each in evidence.pci.functions if (line := each.detail("Physical Slot:"))] if evidence.pci else []
    if service is HOTPLUG and evidence.has(NO_ACPIPHP):
        return _row(service, Holder.NOBODY, text, (), suspects=_known_takers(service, evidence, Seen()))
    if service is HOTPLUG and named:
        places = [place for _, place in named[:CITED]]
        return _row(service, Holder.ACPI, f"{text}; ACPI has named the slots, so that acpiphp serves them", places)
    return _row(service, Holder.NOBODY, f"{text}, so there is nothing to control", ())


def _absent(service: Service, evidence: Evidence, seen: Seen) -> tuple[Holder, str]:
    """Tell who has a service of which nothing shows that Linux runs it."""
    if not seen.absent:
        return Holder.UNKNOWN, "nothing that was given shows it"
    text = "; ".join(seen.absent)
    if service is not HOTPLUG:
        shown = evidence.pci is not None and bool(evidence.pci.with_aer)
        return (Holder.PLATFORM if shown else Holder.UNKNOWN), text
    behind = [each for port in evidence.pci.slots for each in evidence.pci.behind(port)] if evidence.pci else []
    # the names come from ACPI's pci_slot even where acpiphp is off
    if any(each.detail("Physical Slot:") for each in behind) and not evidence.has(NO_ACPIPHP):
        return Holder.ACPI, f"{text}, yet ACPI has named the slots, so that acpiphp serves them"
    if behind:
        return Holder.NOBODY, f"{text}, and no driver serves the occupied slots"
    return Holder.UNKNOWN, f"{text}: ACPI serves the slots, or nobody does"


def _known_takers(service: Service, evidence: Evidence, seen: Seen) -> tuple[Suspect, ...]:
    """Return the options that are known to cost a service, whether or not that shows."""
    cited = _cmdline_at(evidence)
    found = [name for name in effects_given(evidence) if _costs(name, service, evidence)]
    return tuple(
        replace(option(name, (*cited, *seen.absent_at), seen=bool(seen.absent)), takes=(service.name,))
        for name in found
    )


def _costs(name: str, service: Service, evidence: Evidence) -> bool:
    if name in (NO_AER, *NO_ACPI):
        return service is AER
    if name == NO_ACPIPHP:
        return service is HOTPLUG
    return name in (COMPAT, NO_PORTDRV) or not takes_ports_natively(evidence)


def _has_no_port(evidence: Evidence) -> bool:
    """Return whether lspci was allowed to look and shows no port of PCI Express at all."""
    if evidence.pci is None or not evidence.pci.is_whole or not any(each.is_verbose for each in evidence.pci.functions):
        return False
    return not any(each.port for each in evidence.pci.functions)


def _row(
    service: Service,
    holder: Holder,
    why: str,
    evidence: Sequence[str],
    *,
    driver: str = "",
    suspects: tuple[Suspect, ...] = (),
) -> Control:
    return Control(
        bridge="",
        service=service.name,
        holder=holder,
        driver=driver or (service.driver if holder is Holder.LINUX else ""),
        why=why,
        evidence=tuple(dict.fromkeys(evidence)),
        suspects=suspects,
    )


def _cmdline_at(evidence: Evidence) -> tuple[str, ...]:
    return (evidence.cmdline_at,) if evidence.cmdline_at else ()

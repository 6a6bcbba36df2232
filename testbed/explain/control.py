"""Who controls hot-plug, AER, PME and their like below each host bridge, and why."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from testbed.explain.holder import Control, Holder, row
from testbed.explain.refusal import refusal
from testbed.explain.service import (
    AER,
    CITED,
    DPC,
    HOTPLUG,
    LTR,
    MAIN,
    OTHERS,
    SHPC,
    Service,
    Signs,
    below,
    counted,
    look,
    ports_in_log,
    ports_of_edr,
)
from testbed.explain.suspect import (
    DPC_NATIVE,
    NATIVE,
    NO_ACPIPHP,
    NO_AER,
    NO_PORTDRV,
    Blame,
    Cause,
    Suspect,
    option,
    takes_ports_natively,
)
from testbed.explain.without_osc import undecided

if TYPE_CHECKING:
    from testbed.explain.evidence import Evidence
    from testbed.model.kernel_log import LogRecord
    from testbed.model.osc import OscNegotiation

_ACPI_SLOT = re.compile(r"^acpiphp: Slot \[([^\]]{1,40})\] registered")
_ROOT = re.compile(r"PCI Root Bridge \[([^\]]{1,16})\]")
_PRESENT_NOT = re.compile(r"pciehp.{0,60}Slot\([^)]{1,20}\):? (?:Card not present|Already disabled)")


def controls(evidence: Evidence) -> tuple[Control, ...]:
    """Return who has what, for each host bridge the log tells of, else for the machine as a whole."""
    if not evidence.bridges:
        services = (*MAIN, DPC) if ports_in_log(DPC, evidence) or ports_of_edr(evidence) else MAIN
        return tuple(undecided(service, evidence) for service in services)
    by_bridge = (
        _control(service, evidence, osc)
        for osc in evidence.bridges
        for service in (*MAIN, *OTHERS)
        if _is_shown(service, osc)
    )
    return (*by_bridge, *_elsewhere(evidence))


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
    if _is_kept(HOTPLUG, osc):
        return _kept_by_platform(evidence, osc)
    if osc.controls is not None and not osc.native_hotplug:
        return _not_asked(HOTPLUG, osc)
    return None


def unserved_by_acpi(evidence: Evidence) -> Cause | None:
    """Return why acpiphp may not serve a slot; None if nothing known keeps it from that."""
    if not evidence.has(NO_ACPIPHP):
        return None
    suspect = option(NO_ACPIPHP, evidence.cmdline_lines)
    return Cause(text="acpiphp is off", evidence=suspect.evidence, suspects=(suspect,))


def name_of(osc: OscNegotiation) -> str:
    """Return what a host bridge is called in the table."""
    if not osc.buses:
        return osc.bridge or "host bridge"
    return f"{osc.bridge} {osc.root}, bus {osc.domain:04x}:{osc.buses[0]:02x}-{osc.buses[1]:02x}"


def _elsewhere(evidence: Evidence) -> list[Control]:
    """Tell of services on ports below no host bridge of ACPI's, each domain by itself.

    Those of VMD (drivers/pci/controller/vmd.c) and Hyper-V have no `_OSC`: Linux owns them, or since 5.18 what was
    granted to the host bridge of the VMD itself (04b12ef163d1).
    """
    found = []
    for service in (*MAIN, DPC):
        outside = {
            place: at for place, at in ports_in_log(service, evidence).items() if not evidence.is_below_acpi(place)
        }
        for domain in dict.fromkeys(place.domain for place in outside):
            lines = [at for place, at in outside.items() if place.domain == domain]
            text = f"{service.driver} runs on {counted(len(lines), 'port')}; no host bridge of ACPI's is above"
            bridge = f"domain {domain:04x}, outside ACPI"
            found.append(row(service, Holder.LINUX, text, lines[:CITED], bridge=bridge))
    return found


def _no_portdrv(evidence: Evidence) -> Cause:
    suspect = option(NO_PORTDRV, evidence.cmdline_lines)
    return Cause(text="the PCIe port driver was kept from starting", evidence=suspect.evidence, suspects=(suspect,))


def _is_shown(service: Service, osc: OscNegotiation) -> bool:
    named = (*(osc.controls or ()), *osc.platform_lacks, *(osc.requested or ()))
    return service in MAIN or service.bit in named


def _is_kept(service: Service, osc: OscNegotiation) -> bool:
    """Return whether the platform kept what Linux requested; up to 3.11 only the two masks say so."""
    requested = osc.controls is not None and service.bit in (osc.requested or ()) and service.bit not in osc.controls
    return requested or service.bit in osc.platform_lacks


def _control(service: Service, evidence: Evidence, osc: OscNegotiation) -> Control:
    signs = look(service, evidence, below(osc))
    control = _hotplug(evidence, osc, signs) if service is HOTPLUG else _other(service, evidence, osc, signs)
    control = _by_its_words(service, evidence, osc, control)
    suspects = tuple(replace(each, takes=(service.name,)) for each in control.suspects)
    runs = control.holder is Holder.LINUX and bool(signs.running)
    words, cited = (signs.running, signs.running_at) if runs else (signs.absent, signs.absent_at)
    why = "; ".join(dict.fromkeys([control.why, *words]))
    return replace(
        control,
        bridge=name_of(osc),
        suspects=suspects,
        why=why,
        evidence=tuple(dict.fromkeys([*control.evidence, *cited])),
    )


def _by_its_words(service: Service, evidence: Evidence, osc: OscNegotiation, control: Control) -> Control:
    """Return Linux as who has a service whose driver speaks in the same log, where no command line says why.

    With pcie_ports=native the port services run whatever `_OSC` said. If the line is known and has it not, log and line
    contradict each other.
    """
    if evidence.cmdline is not None or control.holder in (Holder.LINUX, Holder.ACPI):
        return control
    lines = [at for place, at in ports_in_log(service, evidence).items() if below(osc)(place)]
    if not lines:
        return control
    text = f"{control.why}, yet {service.driver} runs, as with {NATIVE}"
    return row(service, Holder.LINUX, text, (*control.evidence, *lines[:CITED]))


def _hotplug(evidence: Evidence, osc: OscNegotiation, signs: Signs) -> Control:
    if takes_ports_natively(evidence):
        return _taken(evidence, osc)
    cause = unserved(evidence, osc)
    if cause is None:
        return _by_osc(HOTPLUG, osc) if osc.native_hotplug else _unknown(HOTPLUG, osc, signs)
    slots = acpi_slots(evidence, osc)
    if slots:
        text = f"{cause.text}; acpiphp registered {counted(len(slots), 'slot')} and needs no _OSC control"
        cited = (*cause.evidence, *(record.reference for record in slots[:CITED]))
        # where only the slots' driver is told, what else the cause costs is told in its own row
        return row(HOTPLUG, Holder.ACPI, text, cited, driver="acpiphp")
    if _has_no_slot(evidence, osc):
        text = f"{cause.text}; lspci shows no slot there that can be hot-plugged"
        return row(HOTPLUG, Holder.NOBODY, text, cause.evidence)
    return _without_acpi_slot(evidence, cause)


def _without_acpi_slot(evidence: Evidence, cause: Cause) -> Control:
    """Tell of hot-plug that is not pciehp's, where no line says that acpiphp registered a slot."""
    suspects = (*cause.suspects, *_acpiphp_off(evidence, cause))
    if evidence.has(NO_ACPIPHP):
        text = cause.text if "acpiphp is off" in cause.text else f"{cause.text}, and acpiphp is off"
        return row(HOTPLUG, Holder.NOBODY, text, cause.evidence, suspects=suspects)
    complete = evidence.log.complete_by if evidence.log else ()
    if not complete:
        text = f"{cause.text}; whether acpiphp registered a slot is not in what was given"
        return row(HOTPLUG, Holder.UNKNOWN, text, cause.evidence, suspects=suspects)
    text = f"{cause.text}; acpiphp registered no slot, in a log from the boot's first line past the scan of the buses"
    return row(HOTPLUG, Holder.NOBODY, text, (*cause.evidence, *complete), suspects=suspects)


def _taken(evidence: Evidence, osc: OscNegotiation) -> Control:
    """Tell of pcie_ports=native: a remedy where Linux asked for nothing, a trap where the platform serves the slots."""
    cited = evidence.cmdline_lines
    text = f"{NATIVE}: the port services run whatever _OSC says"
    ghosts = evidence.log.find(_PRESENT_NOT) if evidence.log else []
    if HOTPLUG.bit in osc.platform_lacks and (evidence.is_qemu or ghosts):
        text = f"{NATIVE}: pciehp runs, but the platform keeps {HOTPLUG.bit} and serves the slots through ACPI"
        places = (*cited, *osc.where("platform_lacks"), *(record.reference for _, record in ghosts[:CITED]))
        return row(HOTPLUG, Holder.LINUX, text, places, suspects=(option(NATIVE, places),))
    return row(HOTPLUG, Holder.LINUX, text, cited)


def _kept_by_platform(evidence: Evidence, osc: OscNegotiation) -> Cause:
    cited = _kept_at(osc)
    text = f"the platform keeps {HOTPLUG.bit} to itself"
    if evidence.has(NO_ACPIPHP):
        suspect = option(NO_ACPIPHP, (*evidence.cmdline_lines, *cited))
        return Cause(text=f"{text}, and acpiphp is off", evidence=cited, suspects=(suspect,))
    return Cause(text=text, evidence=cited)


def _kept_at(osc: OscNegotiation) -> tuple[str, ...]:
    return osc.where("platform_lacks") if osc.platform_lacks else osc.where("requested", "controls")


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


def _other(service: Service, evidence: Evidence, osc: OscNegotiation, signs: Signs) -> Control:
    """Tell of a service that either Linux has, or the platform."""
    control = _by_option(service, evidence, osc) if service in MAIN else None
    if control is not None:
        return control
    if service is DPC and not signs.running:
        return _dpc(evidence, osc)
    if service.bit in (osc.controls or ()):
        return _by_osc(service, osc)
    return _left(service, evidence, osc, signs)


def _dpc(evidence: Evidence, osc: OscNegotiation) -> Control:
    """Tell of DPC: portdrv starts it only where it has AER too, or with pcie_ports=dpc-native.

    drivers/pci/pcie/portdrv.c, get_port_device_capability(): `_OSC`'s word on DPC itself is not looked at.
    """
    if evidence.has(DPC_NATIVE):
        text = f"{DPC_NATIVE}: DPC runs whatever _OSC says"
        return row(DPC, Holder.LINUX, text, evidence.cmdline_lines)
    if DPC.bit not in (osc.controls or ()):
        return _left(DPC, evidence, osc, Signs())
    if AER.bit in (osc.controls or ()) and not evidence.has(NO_AER):
        return _by_osc(DPC, osc)
    if takes_ports_natively(evidence):
        return row(DPC, Holder.LINUX, f"{NATIVE}: AER is Linux's, and DPC with it", evidence.cmdline_lines)
    text = f"the platform handed over DPC and not AER: Linux starts DPC only with AER, or with {DPC_NATIVE}"
    return row(DPC, Holder.NOBODY, text, osc.where("controls", "platform_lacks"))


def _by_option(service: Service, evidence: Evidence, osc: OscNegotiation) -> Control | None:
    """Tell of a port service that an option decides on, whatever `_OSC` says."""
    if service is AER and evidence.has(NO_AER):
        cited = (*evidence.cmdline_lines, *osc.where("controls", "not_requested"))
        return row(service, Holder.NOBODY, "AER is turned off", cited, suspects=(option(NO_AER, cited),))
    if takes_ports_natively(evidence):
        text = f"{NATIVE}: the port services run whatever _OSC says"
        return row(service, Holder.LINUX, text, evidence.cmdline_lines)
    if evidence.has(NO_PORTDRV):
        return _of_cause(service, _no_portdrv(evidence))
    return None


def _left(service: Service, evidence: Evidence, osc: OscNegotiation, signs: Signs) -> Control:
    """Tell of a service that Linux did not get."""
    if service is AER and osc.firmware_aer:
        text = "the firmware handles errors first, as its HEST table says"
        return row(service, Holder.PLATFORM, text, osc.where("firmware_aer"))
    # of what is refused as a whole, the cause is told: what the platform lacks is part of it
    cause = refusal(osc, evidence)
    if cause is not None:
        return _of_cause(service, cause)
    if _is_kept(service, osc):
        usual = ", as it is with QEMU" if service in (LTR, DPC) and evidence.is_qemu else ""
        requested = "Linux requested it, and " if service.bit in (osc.requested or ()) else ""
        text = f"{requested}the platform keeps {service.bit} to itself{usual}"
        return row(service, Holder.PLATFORM, text, _kept_at(osc))
    if osc.controls is not None:
        return _of_cause(service, _not_asked(service, osc))
    return _unknown(service, osc, signs)


def _not_asked(service: Service, osc: OscNegotiation) -> Cause:
    cited = osc.where("controls")
    text = f"Linux got other control and did not ask for {service.bit}"
    if osc.assumed:
        text = f"Apple's firmware keeps {service.bit}, and is not asked for it"
        return Cause(text=text, evidence=cited)
    if service in (SHPC, LTR, DPC):
        return Cause(text=text, evidence=cited, normal=True)
    suspect = Suspect(
        name=f"{service.config} is not set", blame=Blame.KERNEL, why="such a kernel never asks for it", evidence=cited
    )
    return Cause(text=text, evidence=cited, suspects=(suspect,))


def _of_cause(service: Service, cause: Cause) -> Control:
    holder = Holder.NOBODY if cause.normal else Holder.PLATFORM
    return row(service, holder, cause.text, cause.evidence, suspects=cause.suspects)


def _by_osc(service: Service, osc: OscNegotiation) -> Control:
    return row(service, Holder.LINUX, f"the platform handed over {service.bit}", osc.where("controls"))


def _unknown(service: Service, osc: OscNegotiation, signs: Signs) -> Control:
    if signs.running:
        return row(service, Holder.LINUX, "; ".join(signs.running), signs.running_at)
    return row(service, Holder.UNKNOWN, "the log does not show how the negotiation ended", osc.references)

"""Who controls hot-plug, AER, PME and their like below each host bridge, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from testbed.explain.handover import by_osc, is_kept, kept_at, no_portdrv, not_asked, unknown
from testbed.explain.holder import Control, Holder, row
from testbed.explain.hotplug import hotplug_control
from testbed.explain.refusal import refusal
from testbed.explain.service import (
    AER,
    CITED,
    DPC,
    HOTPLUG,
    LTR,
    MAIN,
    OTHERS,
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
    NO_AER,
    NO_PORTDRV,
    Cause,
    option,
    takes_ports_natively,
)
from testbed.explain.without_osc import undecided

if TYPE_CHECKING:
    from testbed.explain.evidence import Evidence
    from testbed.model.osc import OscNegotiation


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


def name_of(osc: OscNegotiation) -> str:
    """Return what a host bridge is called in the table."""
    if not osc.buses:
        return osc.bridge or "host bridge"
    return f"{osc.bridge} {osc.root}, bus {osc.domain:04x}:{osc.buses[0]:02x}-{osc.buses[1]:02x}"


def _elsewhere(evidence: Evidence) -> list[Control]:
    """Report services on ports below no host bridge of ACPI's, each domain by itself.

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
            text = f"{service.driver} runs on {counted(len(lines), 'port')}; no ACPI host bridge is above"
            bridge = f"domain {domain:04x}, outside ACPI"
            found.append(row(service, Holder.LINUX, text, lines[:CITED], bridge=bridge))
    return found


def _is_shown(service: Service, osc: OscNegotiation) -> bool:
    named = (*(osc.controls or ()), *osc.platform_lacks, *(osc.requested or ()))
    return service in MAIN or service.bit in named


def _control(service: Service, evidence: Evidence, osc: OscNegotiation) -> Control:
    signs = look(service, evidence, below(osc))
    control = hotplug_control(evidence, osc, signs) if service is HOTPLUG else _other(service, evidence, osc, signs)
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


def _other(service: Service, evidence: Evidence, osc: OscNegotiation, signs: Signs) -> Control:
    """Report a service that either Linux has, or the platform."""
    control = _by_option(service, evidence, osc) if service in MAIN else None
    if control is not None:
        return control
    if service is DPC and not signs.running:
        return _dpc(evidence, osc)
    if service.bit in (osc.controls or ()):
        return by_osc(service, osc)
    return _left(service, evidence, osc, signs)


def _dpc(evidence: Evidence, osc: OscNegotiation) -> Control:
    """Report DPC: portdrv starts it only where it has AER too, or with pcie_ports=dpc-native.

    drivers/pci/pcie/portdrv.c, get_port_device_capability(): `_OSC`'s word on DPC itself is not looked at.
    """
    if evidence.has(DPC_NATIVE):
        text = f"{DPC_NATIVE}: DPC runs whatever _OSC says"
        return row(DPC, Holder.LINUX, text, evidence.cmdline_lines)
    if DPC.bit not in (osc.controls or ()):
        return _left(DPC, evidence, osc, Signs())
    if AER.bit in (osc.controls or ()) and not evidence.has(NO_AER):
        return by_osc(DPC, osc)
    if takes_ports_natively(evidence):
        return row(DPC, Holder.LINUX, f"{NATIVE}: AER is Linux's, and DPC with it", evidence.cmdline_lines)
    text = f"the platform granted DPC but not AER:  Linux starts DPC only with AER, or with {DPC_NATIVE}"
    return row(DPC, Holder.NOBODY, text, osc.where("controls", "platform_lacks"))


def _by_option(service: Service, evidence: Evidence, osc: OscNegotiation) -> Control | None:
    """Report a port service that an option decides on, whatever `_OSC` says."""
    if service is AER and evidence.has(NO_AER):
        cited = (*evidence.cmdline_lines, *osc.where("controls", "not_requested"))
        return row(service, Holder.NOBODY, "AER is turned off", cited, suspects=(option(NO_AER, cited),))
    if takes_ports_natively(evidence):
        text = f"{NATIVE}: the port services run whatever _OSC says"
        return row(service, Holder.LINUX, text, evidence.cmdline_lines)
    if evidence.has(NO_PORTDRV):
        return _of_cause(service, no_portdrv(evidence))
    return None


def _left(service: Service, evidence: Evidence, osc: OscNegotiation, signs: Signs) -> Control:
    """Report a service that Linux did not get."""
    if service is AER and osc.firmware_aer:
        text = "the firmware handles errors first, according to its HEST table"
        return row(service, Holder.PLATFORM, text, osc.where("firmware_aer"))
    # of what is refused as a whole, the cause is told: what the platform lacks is part of it
    cause = refusal(osc, evidence)
    if cause is not None:
        return _of_cause(service, cause)
    if is_kept(service, osc):
        usual = ", as is usual with QEMU" if service in (LTR, DPC) and evidence.is_qemu else ""
        requested = "Linux requested it, and " if service.bit in (osc.requested or ()) else ""
        text = f"{requested}the platform keeps {service.bit} to itself{usual}"
        return row(service, Holder.PLATFORM, text, kept_at(osc))
    if osc.controls is not None:
        return _of_cause(service, not_asked(service, osc))
    return unknown(service, osc, signs)


def _of_cause(service: Service, cause: Cause) -> Control:
    holder = Holder.NOBODY if cause.normal else Holder.PLATFORM
    return row(service, holder, cause.text, cause.evidence, suspects=cause.suspects)

"""Who has a service where the log has no line about `_OSC`: an excerpt, or a machine that has none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from testbed.explain.holder import Control, Holder, row
from testbed.explain.service import (
    AER,
    CITED,
    DPC,
    HOTPLUG,
    Signs,
    counted,
    look,
    ports_in_log,
    ports_of_edr,
)
from testbed.explain.suspect import (
    BY_OSC,
    COMPAT,
    DPC_NATIVE,
    NATIVE,
    NO_ACPI,
    NO_ACPIPHP,
    NO_AER,
    NO_PORTDRV,
    effects_given,
    option,
    takes_ports_natively,
)

if TYPE_CHECKING:
    from testbed.explain.evidence import Evidence
    from testbed.explain.service import Service
    from testbed.explain.suspect import Suspect

_NO_ACPI_WORDS = "no ACPI, so no _OSC"


def undecided(service: Service, evidence: Evidence) -> Control:
    """Report what can be told without any line about `_OSC`."""
    signs = look(service, evidence)
    decided = _by_driver(service, evidence, signs) or _by_option(service, evidence, signs)
    if decided is not None:
        return decided
    if evidence.without_acpi:
        return _without_acpi(service, evidence, signs)
    if evidence.pci is not None and evidence.pci.has_no_port:
        return _without_ports(service, evidence)
    holder, reason = _absent(service, evidence, signs)
    suspects = () if holder is Holder.ACPI else _known_takers(service, evidence, signs)
    cited = (*(_cmdline_of(suspects)), *signs.absent_at)
    return row(service, holder, reason, cited, suspects=suspects)


def _by_driver(service: Service, evidence: Evidence, signs: Signs) -> Control | None:
    """Report a service that shows itself to run, or of errors that came by way of the firmware."""
    if signs.running:
        text = "; ".join([*([f"{_NO_ACPI_WORDS}: Linux owns it"] if _no_osc(evidence) else []), *signs.running])
        return row(service, Holder.LINUX, text, (*_no_osc(evidence), *signs.running_at))
    edr = ports_of_edr(evidence) if service is DPC else []
    if edr:
        return row(service, Holder.PLATFORM, "the firmware owns DPC, and has Linux recover the port (EDR)", edr[:CITED])
    if service is AER and not evidence.has(DPC_NATIVE) and evidence.cmdline and ports_in_log(DPC, evidence):
        lines = list(ports_in_log(DPC, evidence).values())
        text = "DPC runs, which Linux starts only where it has AER"
        return row(service, Holder.LINUX, text, lines[:CITED])
    handed_on = [each for each in evidence.errors.errors if each.by_firmware] if service is AER else []
    if handed_on:
        text = "the firmware sees errors first and reports them (APEI)"
        return row(service, Holder.PLATFORM, text, [each.first.reference for each in handed_on[:CITED]])
    return None


def _by_option(service: Service, evidence: Evidence, signs: Signs) -> Control | None:
    """Report a port service that an option decides on, whatever the firmware says."""
    taker = next((name for name in (COMPAT, NO_PORTDRV) if evidence.has(name)), "")
    if taker and (service is not HOTPLUG or _no_osc(evidence)):
        text = "; ".join([f"{taker}: no port service runs", *signs.absent])
        # without it acpi=off still costs AER
        also = [each for each in _known_takers(service, evidence, signs) if each.name in (NO_AER, *NO_ACPI)]
        suspects = (_taker(taker, service, evidence, signs), *also)
        return row(service, Holder.NOBODY, text, (*_cmdline_of(suspects), *_no_osc(evidence)), suspects=suspects)
    if service is AER and evidence.has(NO_AER):
        suspects = _known_takers(service, evidence, signs)
        return row(service, Holder.NOBODY, "AER is turned off", _cmdline_of(suspects), suspects=suspects)
    if takes_ports_natively(evidence) and not signs.absent and not _no_osc(evidence):
        text = f"{NATIVE}: the port services run whatever the firmware says"
        return row(service, Holder.LINUX, text, evidence.cmdline_lines)
    return None


def _without_acpi(service: Service, evidence: Evidence, signs: Signs) -> Control:
    """Report a machine without ACPI: Linux owns every service (pci_init_host_bridge() in drivers/pci/probe.c)."""
    acpi = next((name for name in NO_ACPI if evidence.has(name)), "")
    if acpi and service is AER:
        text = "; ".join([f"{acpi}: no _OSC and no ECAM, without which AER cannot be reached", *signs.absent])
        suspects = _known_takers(service, evidence, signs)
        return row(service, Holder.NOBODY, text, suspects[0].evidence, suspects=suspects)
    complete = evidence.log.complete_by if evidence.log else ()
    cited = (*evidence.without_acpi, *complete, *signs.absent_at)
    if complete:
        slots = "no port reported a slot" if service is HOTPLUG else f"{service.driver} started on no port"
        return row(
            service, Holder.NOBODY, f"{_NO_ACPI_WORDS}: Linux owns it; {slots} in a log of the whole boot", cited
        )
    return row(service, Holder.UNKNOWN, f"{_NO_ACPI_WORDS}: Linux owns it, if it has the driver", cited)


def _no_osc(evidence: Evidence) -> tuple[str, ...]:
    """Return the lines by which the machine cannot have an `_OSC`."""
    if evidence.without_acpi:
        return evidence.without_acpi
    return evidence.cmdline_lines if any(evidence.has(name) for name in NO_ACPI) else ()


def _without_ports(service: Service, evidence: Evidence) -> Control:
    """Report a machine on which nothing is PCI Express."""
    pci = evidence.pci
    slots = [each for each in pci.functions if each.detail("Physical Slot:")] if pci else []
    # the names come from ACPI's pci_slot even where acpiphp is off
    if service is HOTPLUG and slots and not evidence.has(NO_ACPIPHP):
        places = tuple(place for each in slots[:CITED] for place in each.cite("Physical Slot:"))
        text = f"ACPI has named {counted(len(slots), 'slot')}, so that acpiphp serves them"
        return row(service, Holder.ACPI, text, places, driver="acpiphp")
    text = "lspci shows no PCI Express port"
    if service is HOTPLUG and evidence.has(NO_ACPIPHP):
        suspects = _known_takers(service, evidence, Signs())
        return row(service, Holder.NOBODY, f"{text}, and acpiphp is off", _cmdline_of(suspects), suspects=suspects)
    first = pci.functions[0].reference if pci else ""
    return row(service, Holder.NOBODY, text, (first,))


def _absent(service: Service, evidence: Evidence, signs: Signs) -> tuple[Holder, str]:
    """Report who has a service of which nothing shows that Linux runs it."""
    if not signs.absent:
        return Holder.UNKNOWN, "none of these files shows it"
    text = "; ".join(signs.absent)
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


def _known_takers(service: Service, evidence: Evidence, signs: Signs) -> tuple[Suspect, ...]:
    """Return the options that are known to cost a service, whether or not that shows."""
    names = [name for name in effects_given(evidence) if _costs(name, service, evidence)]
    return tuple(_taker(name, service, evidence, signs) for name in names)


def _taker(name: str, service: Service, evidence: Evidence, signs: Signs) -> Suspect:
    suspect = option(name, (*evidence.cmdline_lines, *signs.absent_at), seen=bool(signs.absent))
    return replace(suspect, takes=(service.name,))


def _costs(name: str, service: Service, evidence: Evidence) -> bool:
    if name in (NO_AER, *NO_ACPI):
        return service is AER
    if name == NO_ACPIPHP:
        return service is HOTPLUG
    if name in BY_OSC and _no_osc(evidence):
        return False
    return name in (COMPAT, NO_PORTDRV) or not takes_ports_natively(evidence)


def _cmdline_of(suspects: tuple[Suspect, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(place for suspect in suspects for place in suspect.evidence))

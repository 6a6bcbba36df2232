"""What else a customer's files show: slots nobody serves, cards that are gone, errors that were not recovered from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.explain.control import name_of
from testbed.explain.holder import Holder
from testbed.explain.hotplug import acpi_slots
from testbed.explain.passthrough import passed_through
from testbed.explain.pcie_errors import pcie_errors
from testbed.explain.resources import unassigned
from testbed.explain.service import AER, CITED, HOTPLUG, counted
from testbed.explain.statement import Statement
from testbed.explain.suspect import HARMLESS, NATIVE, POLLED, effects_given
from testbed.explain.vm_refusal import vm_refusals
from testbed.model.kernel_log import find_crash
from testbed.model.osc import bridge_above

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.explain.evidence import Evidence
    from testbed.explain.holder import Control
    from testbed.explain.lspci import Function
    from testbed.explain.service import Service
    from testbed.explain.suspect import Suspect


@dataclass(frozen=True, kw_only=True)
class _Words:
    """A line of the kernel's and what it means."""

    pattern: re.Pattern[str]
    meaning: str  #: `{}` is the pattern's first group
    suspicious: bool = False


#: facts from Linux 3.10 to 7.1 and QEMU 3.0 to 10.2, as docs/behaviour.md and the kernel's history have them
_WORDS = (
    _Words(
        pattern=re.compile(
            r"pciehp.{0,60}(Slot\([^)]{1,20}\)):? (?:Attention b|B)utton pressed|Button pressed on (Slot\(\S{1,20}\))"
        ),
        meaning="{}: its attention button was pressed: by hand or, in a VM, by QEMU requesting an unplug",
    ),
    _Words(
        pattern=re.compile(r"pciehp.{0,60}(Slot\([^)]{1,20}\)):? Card not present"),
        meaning="{}: pciehp finds the slot empty; a card that was there is removed from the guest",
    ),
    _Words(
        pattern=re.compile(r"pciehp.{0,60}(Slot\([^)]{1,20}\)):? Already disabled"),
        meaning="{}: pciehp believes the slot is off already: a device behind it that is still in the guest is a ghost",
    ),
    _Words(
        pattern=re.compile(r"pciehp.{0,60}(Slot\([^)]{1,20}\)):? No adapter"),
        meaning="{}: 'No adapter' after an unplug comes from a healthy guest: QEMU before 4.0 leaves the link up "
        "when the device is gone (fixed by its commit 2f2b18f60bf1), and the guest tries to power the slot on",
    ),
    _Words(
        pattern=re.compile(r"pciehp.{0,60}(Slot\([^)]{1,20}\)):? Power fault|Power fault on (Slot\(\S{1,20}\))"),
        meaning="{}: the slot's power controller reports a fault",
        suspicious=True,
    ),
    _Words(
        pattern=re.compile(
            r"pciehp.{0,60}(Slot\([^)]{1,20}\)):? (?:Failed to check link status|No link|Cannot add device)"
        ),
        meaning="{}: a card is in the slot and did not come up",
        suspicious=True,
    ),
    _Words(
        # Thunderbolt's and many other controllers do that without harm (Intel erratum CF118: pcie_wait_cmd())
        pattern=re.compile(r"(\S{4,20}:\S{1,12}): (?:pciehp: )?Timeout on hotplug command"),
        meaning="{}: a slot command did not complete in time; many controllers never report completion",
    ),
    _Words(
        pattern=re.compile(r"shpchp (\S{1,30}): Cannot get control of SHPC"),
        meaning="{}: shpchp got no control, so it serves no slot of this bridge; on i440fx that is always the case",
    ),
    _Words(
        pattern=re.compile(r"(\S{1,30}): AER: can't recover \(no error_detected callback\)"),
        meaning="{}: has no driver, or one without error recovery: every recovery of the port above it fails",
        suspicious=True,
    ),
    _Words(
        pattern=re.compile(r"(\S{1,30}): Data Link Layer Link Active not set in"),
        meaning="{}: its link is not reported up, so resetting it fails; QEMU's ports do that in ACPI hot-plug mode",
        suspicious=True,
    ),
    _Words(
        # kernel/resource.c, iomem_map_sanity_check(): the line before has the range, and what it spans more than
        pattern=re.compile(r"caller (\S{1,80}(?: \[\S{1,60}\])?) mapping multiple BARs"),
        meaning="{}: a driver mapped more than the BAR that the line before names; Linux warns, and maps it",
    ),
    _Words(
        pattern=re.compile(
            r"(FADT indicates ASPM is unsupported|ACPI FADT declares the system doesn't support PCIe ASPM)"
        ),
        meaning="{}: Linux leaves ASPM as the firmware set it up; unlike pcie_aspm=off, that costs no _OSC bit",
    ),
)

_LINK_DOWN = re.compile(r"(\S{7,20}?)(?::pcie[0-9a-f]{2,3})?: (?:pciehp: )?(Slot\([^)]{1,20}\)):? Link Down")
#: a link that went down so many times does so of itself
_OFTEN = 3
#: pciehp_ctrl.c, pciehp_handle_button_press() and pciehp_handle_presence_or_link_change()
_SLOT_EVENT = re.compile(r"pciehp.{0,60}(Slot\([^)]{1,20}\)):? (Powering off due to button press|Link Up|Card present)")


def observations(evidence: Evidence, controls: Sequence[Control], suspects: Sequence[Suspect]) -> tuple[Statement, ...]:
    """Return everything of note beside who controls what."""
    return (
        *_about_log(evidence),
        *pcie_errors(evidence),
        *passed_through(evidence),
        *vm_refusals(evidence),
        *_returned(evidence),
        *_flapping(evidence),
        *unassigned(evidence),
        *_slots(evidence, controls),
        *_ports_without_driver(evidence),
        *_silent_aer(evidence, controls),
        *_gone(evidence),
        *_in_words(evidence),
        *_denied(evidence),
        *_cleared(evidence, suspects),
    )


def _about_log(evidence: Evidence) -> Iterator[Statement]:
    log = evidence.log
    if log is None or not log.records:
        return
    first = log.records[0]
    if log.boots > 1:
        text = f"the log holds {log.boots} boots; the last one is explained"
        yield Statement(text=text, evidence=(first.reference,))
    if not log.whole:
        text = "the log does not start at the beginning of the boot: earlier messages are lost"
        yield Statement(text=text, evidence=(first.reference,))
    if not evidence.bridges and not evidence.without_acpi:
        quiet = evidence.cmdline is not None and "quiet" in evidence.cmdline.options
        why = ": with quiet such lines do not reach the console, but dmesg has them" if quiet else ""
        yield Statement(text=f"the log has no line about _OSC{why}", evidence=(first.reference,))
    for record in log.records:
        crash = find_crash(record.text)
        if crash:
            text = f"the guest was in trouble ({crash[0].value}): {crash[1]}"
            yield Statement(text=text, evidence=(record.reference,), suspicious=True)
            return


def _slots(evidence: Evidence, controls: Sequence[Control]) -> Iterator[Statement]:
    """Report slots that can be hot-plugged while pciehp does not listen to them."""
    if evidence.pci is None or evidence.has(POLLED):
        return
    deaf: dict[tuple[str, Holder], list[Function]] = {}
    for port in evidence.pci.slots:
        if port.flag("SltCtl:", "HPIrq") is False:
            bridge = _bridge_of(evidence, port)
            deaf.setdefault((bridge, _holder(controls, HOTPLUG, bridge)), []).append(port)
    for (bridge, holder), ports in deaf.items():
        places = tuple(place for port in ports[:CITED] for place in port.cite("SltCap:", "SltCtl:"))
        text = f"{_listed(ports)}: HotPlug+ and HPIrq-: pciehp does not listen to a slot that can be hot-plugged"
        if holder is Holder.ACPI:
            text += _needless(evidence, bridge, len(ports))
        # a soldered card's slot has no driver on many a board; QEMU makes slots to be used
        lost = holder is Holder.LINUX or (holder is Holder.NOBODY and evidence.is_qemu)
        yield Statement(text=text, evidence=places, suspicious=lost)


def _needless(evidence: Evidence, bridge: str, ports: int) -> str:
    """Return that ACPI serves the slots, or how many of them at most."""
    served = [len(acpi_slots(evidence, osc)) for osc in evidence.bridges if name_of(osc) == bridge]
    if served and served[0] < ports:
        return f"; ACPI serves at most {served[0]} of them, and the files do not show which"
    return ", and need not: ACPI serves the slots"


def _bridge_of(evidence: Evidence, port: Function) -> str:
    """Return the name that the table has for the host bridge above a port; `outside` if it is none of ACPI's."""
    if not evidence.bridges:
        return ""
    known = bridge_above(evidence.bridges, port.address)
    return name_of(known) if known.is_above(port.address) or known.buses is None else "outside"


def _holder(controls: Sequence[Control], service: Service, bridge: str) -> Holder:
    """Return who has a service below a host bridge."""
    rows = (row.holder for row in controls if row.service == service.name and row.bridge == bridge)
    return next(rows, Holder.UNKNOWN)


def _ports_without_driver(evidence: Evidence) -> Iterator[Statement]:
    """Report ports that the port driver could have and has not; a root port of another class is none of its own."""
    if evidence.pci is None or not any(each.driver for each in evidence.pci.functions):
        return
    bare = [each for each in evidence.pci.bridges if each.port and not each.driver]
    if bare:
        text = f"{_listed(bare)}: no driver is bound to the port: the port services are off"
        yield Statement(text=text, evidence=tuple(port.reference for port in bare[:CITED]), suspicious=True)


def _silent_aer(evidence: Evidence, controls: Sequence[Control]) -> Iterator[Statement]:
    silent = (
        [port for port in evidence.pci.with_aer if port.flag("RootCmd:", "FERptEn") is False] if evidence.pci else []
    )
    if silent:
        places = tuple(place for port in silent[:CITED] for place in port.cite("Capabilities: [100", "RootCmd:"))
        # QEMU's firmware handles no errors
        lost = evidence.is_qemu or any(
            _holder(controls, AER, _bridge_of(evidence, port)) is Holder.LINUX for port in silent
        )
        text = f"{_listed(silent)}: AER is present but not enabled: Linux is not told of errors below it"
        yield Statement(text=text, evidence=places, suspicious=lost)


def _returned(evidence: Evidence) -> Iterator[Statement]:
    """Report slots that pciehp powered off, and whose link or card came back afterwards."""
    off: dict[str, str] = {}
    returned: dict[str, tuple[str, str]] = {}
    for match, record in evidence.log.find(_SLOT_EVENT) if evidence.log else []:
        if match[2].startswith("Powering off"):
            off[match[1]] = record.reference
        elif match[1] in off:
            returned.setdefault(match[1], (off[match[1]], record.reference))
    for slot, places in list(returned.items())[:CITED]:
        text = f"{slot}: was powered off by its button, and came back afterwards"
        yield Statement(text=text, evidence=places)


def _flapping(evidence: Evidence) -> Iterator[Statement]:
    """Report slots whose link goes down again and again; a card that is pulled does that once."""
    lines: dict[str, list[str]] = {}
    for match, record in evidence.log.find(_LINK_DOWN) if evidence.log else []:
        lines.setdefault(f"{match[1]} {match[2]}", []).append(record.reference)
    for slot, places in lines.items():
        if len(places) >= _OFTEN:
            text = f"{slot}: its link went down {len(places)} times"
            yield Statement(text=text, evidence=(places[0], places[-1]), suspicious=True)


def _gone(evidence: Evidence) -> Iterator[Statement]:
    """Report functions that do not answer; on hardware most are asleep: switchable graphics, Thunderbolt."""
    gone = [each for each in evidence.pci.functions if each.is_gone] if evidence.pci else []
    for each in gone[:CITED]:
        text = f"{each.address}: reads as all ones: powered off or removed while the guest still has it"
        if not evidence.is_qemu:
            text = f"{each.address}: reads as all ones: powered down (D3cold), or removed"
        if evidence.has(NATIVE) and evidence.is_qemu:
            text += f"; {NATIVE} under QEMU's ACPI hot-plug does that at boot"
        yield Statement(text=text, evidence=each.cite("!!! Unknown header type 7f"), suspicious=evidence.is_qemu)


def _in_words(evidence: Evidence) -> Iterator[Statement]:
    for words in _WORDS:
        found = evidence.log.find(words.pattern) if evidence.log else []
        if found:
            names = list(dict.fromkeys(match[match.lastindex or 0] for match, _ in found))
            more = f" and {counted(len(names) - CITED, 'other')}" if len(names) > CITED else ""
            often = f" ({len(found)} times)" if len(found) > len(names) else ""
            text = words.meaning.replace("{}", ", ".join(names[:CITED]) + more) + often
            places = tuple(record.reference for _, record in found[:CITED])
            yield Statement(text=text, evidence=places, suspicious=words.suspicious)


def _denied(evidence: Evidence) -> Iterator[Statement]:
    denied = next((each for each in evidence.pci.functions if each.is_denied), None) if evidence.pci else None
    if denied:
        text = "lspci was not permitted to read the capabilities: run it as root"
        yield Statement(text=text, evidence=denied.cite("Capabilities:"))


def _cleared(evidence: Evidence, suspects: Sequence[Suspect]) -> Iterator[Statement]:
    """Report options that look guilty and are not."""
    cited = (evidence.cmdline_at,)
    suspected = {suspect.name for suspect in suspects}
    for name in effects_given(evidence):
        if name not in suspected:
            yield Statement(text=f"{name} is on the command line, but is not involved", evidence=cited)
    for name, why in HARMLESS.items():
        if evidence.has(name):
            yield Statement(text=f"{name} is harmless: {why}", evidence=cited)


def _listed(functions: Sequence[Function]) -> str:
    names = [str(each.address) for each in functions[:4]]
    more = f" and {counted(len(functions) - 4, 'other')}" if len(functions) > 4 else ""
    return ", ".join(names) + more

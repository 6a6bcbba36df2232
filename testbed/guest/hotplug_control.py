"""Who in the guest serves a PCI slot, and why: the evidence a hot-plug verdict is explained with.

Linux serves the slot of a PCIe port with pciehp only if `_OSC` gave it native hot-plug control
(drivers/acpi/pci_root.c, drivers/pci/pcie/portdrv.c); ACPI slots are served by acpiphp, which needs no such control. A
conventional bridge's own controller is served by shpchp, which needs SHPC control from `_OSC` or OSHP (shpchp_core.c).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from testbed.explain.evidence import Evidence
from testbed.explain.hotplug import unserved, unserved_by_acpi
from testbed.explain.refusal import refusal
from testbed.guest.files import show
from testbed.guest.pci import place_of
from testbed.machine.device_tree import live_devices
from testbed.model.cmdline import CommandLine
from testbed.model.errors import TakenAwayError
from testbed.model.osc import REQUIRED_SUPPORT, OscNegotiation, bridge_above, read_bridges
from testbed.model.outcome import Finding
from testbed.model.pci import Bdf
from testbed.model.spec import CONVENTIONAL_BRIDGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.explain.suspect import Cause
    from testbed.guest.guest import Guest
    from testbed.guest.pci import SlotPlace
    from testbed.model.kernel_log import LogRecord
    from testbed.model.spec import Device, Slot

_BOUND = "/sys/bus/pci_express/drivers/pciehp/*:pcie*"
_SHPC_BOUND = "/sys/bus/pci/drivers/shpchp/*:*"
_SLOTS = "/sys/bus/pci/slots/*/address"
#: only a slot with a driver has it; ACPI's pci_slot gives names also to slots that nobody serves
_SERVED = "/sys/bus/pci/slots/*/power"
_INTERRUPTS = "/proc/interrupts"
#: what a slot that acpiphp serves, or could serve alone, expects of `_OSC`
_NO_NEED = "any: this slot is ACPI's"
_SLOT_DRIVERS = r"pciehp|acpiphp|shpchp|pcieport .*(?:Slot|Link)"


@dataclass(frozen=True, kw_only=True)
class HotplugControl:
    """The guest's hold on one slot."""

    place: SlotPlace
    pciehp_bound: bool  #: pciehp has the port
    interrupts: tuple[str, ...]  #: lines of /proc/interrupts that name pciehp
    slot_name: str  #: the slot's name in /sys/bus/pci/slots; empty if no driver registered it
    osc: OscNegotiation
    cmdline: CommandLine
    evidence: str  #: where the sysfs and interrupt facts stand
    log_position: int = -1  #: sequence number of the kernel's last message when this was read
    conventional: bool = False  #: the slot is on a conventional bridge's bus, where pciehp has no business
    shpchp_bound: bool = False  #: shpchp has the bridge
    shpchp_words: str = ""  #: what shpchp said last of the bridge as it started

    @property
    def served_by(self) -> str:
        """Return the slot driver that registered the slot; empty if none did."""
        if self.pciehp_bound:
            return "pciehp"
        if self.shpchp_bound:
            return "shpchp"
        return "acpiphp" if self.slot_name else ""

    @property
    def needs_osc(self) -> bool:
        """Return whether a driver of the slot has to be given control by `_OSC`; ACPI's slots are served without."""
        return self.place.port is not None and self.served_by != "acpiphp"

    @property
    def suspects(self) -> tuple[str, ...]:
        """Return the options of the command line whose effect is seen."""
        return self.cause.options if self.cause else ()

    @property
    def cause(self) -> Cause | None:
        """Return what keeps a driver from the slot, by the rules of `testbed explain`; None if nothing is known to."""
        evidence = Evidence(cmdline=self.cmdline, bridges=(self.osc,))
        if self.conventional:
            return refusal(self.osc, evidence)
        return unserved(evidence, self.osc) if self.place.port else unserved_by_acpi(evidence)


async def read_control(guest: Guest, slot: Slot | Device) -> HotplugControl:
    """Collect the evidence for a slot, or for the one a device stands in."""
    place = await place_of(guest.machine, slot)
    shown = await show(guest, _BOUND, _SHPC_BOUND, _SLOTS, _SERVED, _INTERRUPTS)
    await guest.shell.catch_up()
    served = {PurePosixPath(path).parent for path in shown.matching(_SERVED)}
    places = (PurePosixPath(path) for path in shown.matching(_SLOTS))
    slots = {shown.text(str(path)): path.parent.name for path in places if path.parent in served}
    interrupts = shown.text(_INTERRUPTS).splitlines()
    return HotplugControl(
        place=place,
        pciehp_bound=any(PurePosixPath(path).name.startswith(f"{place.port}:pcie") for path in shown.matching(_BOUND)),
        interrupts=tuple(line.strip() for line in interrupts if "pciehp" in line),
        slot_name=slots.get(place.address, ""),
        osc=bridge_above(read_bridges(guest.shell.log.records), place.port or Bdf(0, place.bus, place.device, 0)),
        cmdline=CommandLine(guest.machine.boot.cmdline),
        evidence=shown.evidence,
        log_position=guest.shell.log.latest,
        conventional=await _is_conventional(guest, slot.bus),
        shpchp_bound=any(PurePosixPath(path).name == str(place.port) for path in shown.matching(_SHPC_BOUND)),
        shpchp_words=next((_cited(each) for each in reversed(guest.shell.log.find(rf"^shpchp {place.port}: "))), ""),
    )


async def _is_conventional(guest: Guest, bus: str | None) -> bool:
    """Return whether a bus is that of a conventional bridge, which may have been added while the machine ran."""
    machine = guest.machine
    if bus is None or bus in machine.spec.buses:
        return any(bus == each.id for each in machine.spec.devices_of(*CONVENTIONAL_BRIDGES))
    added = (each for each in await live_devices(machine) if each.id == bus)
    return any(each.driver in CONVENTIONAL_BRIDGES for each in added)


async def slot_driver_words(guest: Guest, *, after: int) -> list[LogRecord]:
    """Return what the slot drivers said after the message numbered `after`."""
    await guest.shell.catch_up()
    return guest.shell.log.find(_SLOT_DRIVERS, after=after)


def control_findings(control: HotplugControl) -> list[Finding]:
    """Return who serves the slot, as findings."""
    findings = []
    if control.osc.supports is not None:
        missing = control.osc.missing_support
        findings.append(
            Finding(
                subject="_OSC: OS supports",
                expected=f"{' '.join(REQUIRED_SUPPORT)}, for native control" if control.needs_osc else _NO_NEED,
                observed=f"lacks {' '.join(missing)}" if missing else "complete",
                evidence=control.osc.where("supports")[0],
            )
        )
    is_port = control.place.port is not None and not control.conventional
    irqs = f", pciehp has {_count(control.interrupts)} in /proc/interrupts" if is_port else ""
    findings.append(
        Finding(
            subject=f"slot {control.place.address}",
            expected="a driver that serves it",
            observed=(f"served by {control.served_by}" if control.served_by else "served by nobody") + irqs,
            evidence=control.evidence,
        )
    )
    return [*findings, *_cause_findings(control)]


def _cause_findings(control: HotplugControl) -> list[Finding]:
    """Return why nobody serves the slot, where the kernel's words show it."""
    cause = control.cause
    if control.served_by or cause is None or not cause.evidence:
        return []
    observed = cause.text + _suspected(cause)
    return [Finding(subject="why nobody does", expected="-", observed=observed, evidence=cause.evidence[0])]


def slot_taken_away(control: HotplugControl, what: str) -> TakenAwayError | None:
    """Return as a lost starting state that nobody serves the slot, if an option of the command line does that."""
    cause = control.cause
    if control.served_by or cause is None or not cause.options:
        return None
    evidence = cause.evidence[0] if cause.evidence else control.evidence
    return TakenAwayError(f"{what}: {_nobody(control)}", cause.options, evidence=evidence)


def by_hand(function: Bdf, port: Bdf, *, whole: bool = True) -> str:
    """Return the guest's command that releases a function by hand, where nobody serves the port's slot.

    Slot Control is at 18h of the PCI Express capability; bit 10 switches the power off, 9:8 (11b) the power indicator
    (PCIe 7.5.3.10). Linux has the function no longer when its power goes. `whole`: the register in one write; else only
    the byte that has the bits.
    """
    register = "CAP_EXP+18.w=0700:0700" if whole else "CAP_EXP+19.b=07:07"
    return f"echo 1 > {function.sysfs}/remove && setpci -s {port} {register}"


def why_served(control: HotplugControl, words: Sequence[LogRecord]) -> str:
    """Say who acted on a request that was carried out."""
    if control.pciehp_bound:
        quoted = _first(words, r"pciehp")
        return f"pciehp serves port {control.place.port}" + (f": {quoted}" if quoted else "")
    if control.shpchp_bound:
        quoted = _first(words, r"shpchp")
        return f"shpchp serves bridge {control.place.port}" + (f": {quoted}" if quoted else "")
    if control.served_by:
        return f"acpiphp serves slot {control.slot_name} and does not depend on _OSC control" + _aside(control)
    return nobody_serves(control)


def why_ignored(control: HotplugControl, words: Sequence[LogRecord]) -> str:
    """Say why a request was ignored, from what the guest shows."""
    if control.served_by:
        quoted = "; ".join(f"{record.text} ({record.reference})" for record in words[-2:])
        return (
            f"{control.served_by} serves the slot and did not obey{': ' + quoted if quoted else ', and said nothing'}"
        )
    return nobody_serves(control)


def nobody_serves(control: HotplugControl) -> str:
    """Say why no driver serves the slot."""
    return _nobody(control) + _suspected(control.cause)


def _nobody(control: HotplugControl) -> str:
    if control.place.port is None:
        return f"no driver registered slot {control.place.address}"
    if control.conventional:
        quoted = f": {control.shpchp_words}" if control.shpchp_words else ""
        return f"shpchp is not bound to bridge {control.place.port}{quoted}"
    port, count = control.place.port, _count(control.interrupts)
    nobody = f"pciehp is not bound to port {port} and has {count} in /proc/interrupts"
    cause = control.cause
    if cause is None:
        return nobody
    cited = f" ({cause.evidence[0]})" if cause.evidence else ""
    return f"{cause.text}{cited}, so {nobody}"


def _suspected(cause: Cause | None) -> str:
    return f"; suspect: {' '.join(cause.options)}" if cause and cause.options else ""


def _aside(control: HotplugControl) -> str:
    missing = control.osc.missing_support
    return f" (OS supports lacks {' '.join(missing)})" if missing and control.place.port else ""


def _count(interrupts: Sequence[str]) -> str:
    return {0: "no line", 1: "1 line"}.get(len(interrupts), f"{len(interrupts)} lines")


def _first(words: Sequence[LogRecord], pattern: str) -> str:
    for record in words:
        if re.search(pattern, record.text):
            return _cited(record)
    return ""


def _cited(record: LogRecord) -> str:
    """Return a slot driver's words without the names of driver and port, and where they stand."""
    return f"{re.split('pciehp: |shpchp [0-9a-f:.]+: ', record.text)[-1]} ({record.reference})"

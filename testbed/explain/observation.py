"""What else a customer's files show: slots nobody serves, cards that are gone, errors that were not recovered from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.explain.control import Holder, name_of
from testbed.explain.service import AER, CITED, HOTPLUG, counted
from testbed.explain.suspect import HARMLESS, NATIVE, POLLED, effects_given
from testbed.model.kernel_log import find_crash
from testbed.model.osc import bridge_above

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.explain.control import Control
    from testbed.explain.evidence import Evidence
    from testbed.explain.lspci import Function
    from testbed.explain.suspect import Suspect


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One thing that is shown."""

    text: str
    evidence: tuple[str, ...]
    suspicious: bool = False


@dataclass(frozen=True, kw_only=True)
class _Words:
    """A line of the kernel's and what it means."""

    pattern: re.Pattern[str]
    meaning: str  #: `{}` is the pattern's first group
    suspicious: bool = False


#: facts from Linux 3.10 to 7.1 and QEMU 3.0 to 10.2, as docs/behaviour.md and the kernel's history have them
_WORDS = (
    _Words(
        pattern=re.compile(r"pciehp.{0,60}(Slot\([^)]{1,20}\)):? Card not present"),
        meaning="{}: pciehp finds the slot empty; a card that was there is taken away from the guest",
    ),
    _Words(
        pattern=re.compile(r"pciehp.{0,60}(Slot\([^)]{1,20}\)):? Already disabled"),
        meaning="{}: pciehp holds the slot to be off already: a device behind it that is still in the guest is a ghost",
    ),
    _Words(
        pattern=re.compile(r"pciehp.{0,60}(Slot\([^)]{1,20}\)):? No adapter"),
        meaning="{}: 'No adapter' after an unplug comes from a healthy guest: QEMU before 4.0 leaves the link up "
        "when the device is gone (mended by its commit 2f2b18f60bf1), and the guest tries to power the slot on",
    ),
    _Words(
        pattern=re.compile(r"pciehp.{0,60}(Slot\([^)]{1,20}\)|Timeout).{0,40}hotplug command"),
        meaning="{}: a command to the slot was not completed in time",
        suspicious=True,
    ),
    _Words(
        pattern=re.compile(r"shpchp (\S{1,30}): Cannot get control of SHPC"),
        meaning="{}: shpchp got no control, so it serves no slot of this bridge; on i440fx that is always so",
    ),
    _Words(
        pattern=re.compile(r"(\S{1,30}): AER: can't recover \(no error_detected callback\)"),
        meaning="{}: has no driver, or one that knows no error recovery: every recovery of the port above it fails",
        suspicious=True,
    ),
    _Words(
        pattern=re.compile(r"(\S{1,30}): AER: [dD]evice recovery failed"),
        meaning="{}: a device below it was not recovered from an error",
        suspicious=True,
    ),
    _Words(
        pattern=re.compile(r"(\S{1,30}): Data Link Layer Link Active not set in"),
        meaning="{}: its link is not reported up, so a reset of it fails; QEMU's ports do that in ACPI hot-plug mode",
        suspicious=True,
    ),
    _Words(
        pattern=re.compile(r"(\S{1,30}): BAR [0-9]+.{0,80}(?:no space|can't assign)"),
        meaning="{}: no room for its BAR behind the port: reserve some (pci=hpmmiosize=, or the port's pref64-reserve)",
        suspicious=True,
    ),
    _Words(
        pattern=re.compile(
            r"(FADT indicates ASPM is unsupported|ACPI FADT declares the system doesn't support PCIe ASPM)"
        ),
        meaning="{}: Linux leaves ASPM as the firmware set it up; unlike pcie_aspm=off that takes no _OSC bit away",
    ),
)


def observations(evidence: Evidence, controls: Sequence[Control], suspects: Sequence[Suspect]) -> tuple[Statement, ...]:
    """Return everything of note beside who controls what."""
    return (
        *_about_log(evidence),
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
        text = "the log does not begin where the boot began: what the kernel said before is lost"
        yield Statement(text=text, evidence=(first.reference,))
    if not evidence.bridges:
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
    """Tell of slots that can be hot-plugged while pciehp does not listen to them."""
    if evidence.pci is None:
        return
    if evidence.has(POLLED):
        return
    deaf: dict[Holder, list[Function]] = {}
    for port in evidence.pci.slots:
        if port.flag("SltCtl:", "HPIrq") is False:
            deaf.setdefault(_holder(evidence, controls, port), []).append(port)
    for holder, ports in deaf.items():
        places = tuple(place for port in ports[:CITED] for place in port.cite("SltCap:", "SltCtl:"))
        needless = ", and need not: ACPI serves the slots" if holder is Holder.ACPI else ""
        text = (
            f"{_listed(ports)}: HotPlug+ and HPIrq-: pciehp does not listen to a slot that can be hot-plugged{needless}"
        )
        yield Statement(text=text, evidence=places, suspicious=holder in (Holder.NOBODY, Holder.LINUX))


def _holder(evidence: Evidence, controls: Sequence[Control], port: Function) -> Holder:
    """Return who has hot-plug where a port stands."""
    names = [name_of(bridge_above(evidence.bridges, port.address))] if evidence.bridges else [""]
    rows = (row.holder for row in controls if row.service == HOTPLUG.name and row.bridge in names)
    return next(rows, Holder.UNKNOWN)


def _ports_without_driver(evidence: Evidence) -> Iterator[Statement]:
    if evidence.pci is None or not any(each.driver for each in evidence.pci.functions):
        return
    bare = [each for each in evidence.pci.functions if each.port and not each.driver]
    if bare:
        text = f"{_listed(bare)}: no driver has the port: the port services are off"
        yield Statement(text=text, evidence=tuple(port.reference for port in bare[:CITED]), suspicious=True)


def _silent_aer(evidence: Evidence, controls: Sequence[Control]) -> Iterator[Statement]:
    silent = (
        [port for port in evidence.pci.with_aer if port.flag("RootCmd:", "FERptEn") is False] if evidence.pci else []
    )
    if silent:
        places = tuple(place for port in silent[:CITED] for place in port.cite("Capabilities: [100", "RootCmd:"))
        lost = any(control.service == AER.name and control.holder is Holder.LINUX for control in controls)
        lost |= evidence.is_qemu  # whose firmware handles no errors
        text = f"{_listed(silent)}: AER is there and not enabled: Linux hears of no error below it"
        yield Statement(text=text, evidence=places, suspicious=lost)


def _gone(evidence: Evidence) -> Iterator[Statement]:
    gone = [each for each in evidence.pci.functions if each.is_gone] if evidence.pci else []
    for each in gone[:CITED]:
        text = f"{each.address}: answers nothing but ones: powered off or removed below a guest that still has it"
        if evidence.has(NATIVE):
            text += f"; {NATIVE} under QEMU's ACPI hot-plug does that at boot"
        yield Statement(text=text, evidence=each.cite("!!! Unknown header type 7f"), suspicious=True)


def _in_words(evidence: Evidence) -> Iterator[Statement]:
    for words in _WORDS:
        found = evidence.log.find(words.pattern) if evidence.log else []
        if found:
            names = list(dict.fromkeys(match[1] for match, _ in found))
            more = f" and {counted(len(names) - CITED, 'other')}" if len(names) > CITED else ""
            text = words.meaning.replace("{}", ", ".join(names[:CITED]) + more)
            places = tuple(record.reference for _, record in found[:CITED])
            yield Statement(text=text, evidence=places, suspicious=words.suspicious)


def _denied(evidence: Evidence) -> Iterator[Statement]:
    denied = next((each for each in evidence.pci.functions if each.is_denied), None) if evidence.pci else None
    if denied:
        text = "lspci was not allowed to read the capabilities: run it as root"
        yield Statement(text=text, evidence=denied.cite("Capabilities:"))


def _cleared(evidence: Evidence, suspects: Sequence[Suspect]) -> Iterator[Statement]:
    """Tell of options that look guilty and are not."""
    cited = (evidence.cmdline_at,)
    suspected = {suspect.name for suspect in suspects}
    for name in effects_given(evidence):
        if name not in suspected:
            yield Statement(text=f"{name} is on the command line, and has no part in this", evidence=cited)
    for name, why in HARMLESS.items():
        if evidence.has(name):
            yield Statement(text=f"{name} is harmless: {why}", evidence=cited)


def _listed(functions: Sequence[Function]) -> str:
    names = [str(each.address) for each in functions[:4]]
    more = f" and {counted(len(functions) - 4, 'other')}" if len(functions) > 4 else ""
    return ", ".join(names) + more

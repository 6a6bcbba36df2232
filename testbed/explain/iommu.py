"""Whether a host's IOMMU is used, remaps interrupts, and keeps a function apart from others.

Sources: drivers/iommu/iommu.c, intel/{iommu,irq_remapping,dmar}.c, amd/init.c; drivers/vfio/vfio_iommu_type1.c, which
refuses a group where interrupts are not remapped; pci_acs_enabled() in drivers/pci/pci.c, on which the groups rest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.explain.check import Answer, Check
from testbed.explain.service import CITED
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from testbed.explain.evidence import Evidence
    from testbed.explain.interrupts import Interrupt
    from testbed.explain.lspci import Function
    from testbed.explain.sysfs import Cited

_GROUP = re.compile(r"^\S{1,30} ([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]): Adding to iommu group ([0-9]{1,6})")
_TABLE = re.compile(r"^ACPI: (?:DMAR|IVRS|IORT|VIOT) ")
_OFF = re.compile(r"^DMAR: IOMMU disabled")
_REMAPS = re.compile(r"DMAR-IR: Enabled IRQ remapping|AMD-Vi: Interrupt remapping enabled")
_DOES_NOT_REMAP = re.compile(
    r"(?:No interrupt remapping (?:support|for this platform)|DMAR-IR: .{0,60}Failed to enable"
    r"|[Ii]nterrupt remapping is being disabled)"
)
#: what switches the IOMMU off, or remapping alone (Documentation/admin-guide/kernel-parameters.txt)
_SWITCHES = ("intel_iommu=off", "amd_iommu=off", "iommu=off")
_REMAPPING_SWITCHES = ("intremap=off", "nointremap")
_UNSAFE = "vfio_iommu_type1.allow_unsafe_interrupts=1, if every VM is trusted not to forge interrupts"
#: without one of these a peer's requests, or their completions, pass by the IOMMU
_ACS_BITS = ("SrcValid", "ReqRedir", "CmpltRedir", "UpstreamFwd")


def in_use(evidence: Evidence, address: Bdf) -> Check:
    """Return whether the host's IOMMU translates what the function does."""
    item = "IOMMU in use"
    if mine := groups(evidence).get(address):
        return Check(item=item, answer=Answer.YES, why=f"{address} is in IOMMU group {mine[0]}", evidence=(mine[1],))
    if switched := [each for each in _SWITCHES if evidence.has(each)]:
        why = f"{switched[0]} is on the command line"
        return Check(
            item=item, answer=Answer.NO, why=why, evidence=evidence.cmdline_lines, remedy=f"boot without {switched[0]}"
        )
    if others := list(groups(evidence).values()):
        return Check(
            item=item,
            answer=Answer.UNKNOWN,
            why=f"other functions have a group, but none of the files names {address}",
            evidence=(others[0][1],),
            remedy="give the whole log, or: find /sys/kernel/iommu_groups -type l",
        )
    return _without_groups(evidence, item)


def _without_groups(evidence: Evidence, item: str) -> Check:
    """Return the answer where no function is known to have a group."""
    ask = "give the whole boot log, or: find /sys/kernel/iommu_groups -type l"
    if evidence.log is None:
        return Check(item=item, answer=Answer.UNKNOWN, why="none of the files shows it", remedy=ask)
    if off := evidence.log.find(_OFF):
        return Check(item=item, answer=Answer.NO, why=off[0][1].text, evidence=(off[0][1].reference,))
    tables = tuple(record.reference for _, record in evidence.log.find(_TABLE)[:CITED])
    if not evidence.log.complete_by:
        return Check(
            item=item, answer=Answer.UNKNOWN, why="the log does not cover a whole boot", evidence=tables, remedy=ask
        )
    if tables:
        why = "the firmware describes an IOMMU, but Linux put no device into an IOMMU group"
        remedy = "boot with intel_iommu=on (AMD's is on unless amd_iommu=off)"
        return Check(item=item, answer=Answer.NO, why=why, evidence=tables, remedy=remedy)
    return Check(
        item=item,
        answer=Answer.NO,
        why="the firmware describes no IOMMU (no DMAR, IVRS, IORT or VIOT table)",
        evidence=evidence.log.complete_by,
        remedy="switch VT-d or AMD-Vi on in the firmware setup; in a VM, give it a virtual IOMMU",
    )


def remapping(evidence: Evidence) -> Check:
    """Return whether a VM's device can send only the interrupts that are its own."""
    item = "interrupt remapping"
    if shown := _remaps(evidence):
        return Check(item=item, answer=Answer.YES, why=shown[0], evidence=(shown[1],))
    if switch := next((each for each in _REMAPPING_SWITCHES if _is_given(evidence, each)), ""):
        why = f"{switch} is on the command line"
        return Check(
            item=item, answer=Answer.NO, why=why, evidence=evidence.cmdline_lines, remedy=f"boot without {switch}"
        )
    if shown := _does_not_remap(evidence):
        first = "" if groups(evidence) else "get the IOMMU into use first, and check again; if this remains: "
        return Check(item=item, answer=Answer.NO, why=shown[0], evidence=(shown[1],), remedy=first + _UNSAFE)
    ask = "give the whole boot log, or /proc/interrupts"
    return Check(item=item, answer=Answer.UNKNOWN, why="none of the files shows it", remedy=ask)


def _remaps(evidence: Evidence) -> Cited | None:
    if evidence.log and (found := evidence.log.find(_REMAPS)):
        return found[0][1].text, found[0][1].reference
    remapped = [row for row in _message_signalled(evidence) if row.handlers.startswith("IR-")]
    return ("interrupts go through it (IR-)", remapped[0].reference) if remapped else None


def _does_not_remap(evidence: Evidence) -> Cited | None:
    if evidence.log and (refused := evidence.log.find(_DOES_NOT_REMAP)):
        return refused[0][1].text, refused[0][1].reference
    if rows := _message_signalled(evidence):
        return "message signalled interrupts do not go through it (no IR-)", rows[0].reference
    if evidence.log and evidence.log.complete_by:
        return "the log of the whole boot does not say that it was enabled", evidence.log.complete_by[0]
    return None


def _message_signalled(evidence: Evidence) -> list[Interrupt]:
    return [row for row in (evidence.interrupts.rows if evidence.interrupts else ()) if "MSI" in row.handlers]


def _is_given(evidence: Evidence, option: str) -> bool:
    return evidence.has(option) if "=" in option else bool(evidence.cmdline and option in evidence.cmdline.words)


def group(evidence: Evidence, address: Bdf) -> Check:
    """Return whether the function can go to a VM without others: a VM gets whole groups."""
    item = "a group of its own"
    known = groups(evidence)
    mine = known.get(address)
    if mine is None:
        return Check(item=item, answer=Answer.UNKNOWN, why=f"the group of {address} is not known")
    beside = {each: cited for each, cited in known.items() if cited[0] == mine[0] and each != address}
    bridges = {each.address for each in (evidence.pci.functions if evidence.pci else ()) if each.is_bridge}
    if others := {each: cited for each, cited in beside.items() if each not in bridges}:
        names = ", ".join(map(str, sorted(others)[:CITED])) + (" …" if len(others) > CITED else "")
        return Check(
            item=item,
            answer=Answer.NO,
            why=f"group {mine[0]} has {names} as well",
            evidence=(mine[1], *(cited[1] for cited in list(others.values())[:CITED])),
            remedy="give all of them to the VM, or leave the rest to vfio-pci; or use a slot whose ports have ACS",
        )
    with_bridges = " but bridges, which stay with the host" if beside else ""
    return Check(
        item=item, answer=Answer.YES, why=f"nothing else is in group {mine[0]}{with_bridges}", evidence=(mine[1],)
    )


def acs(evidence: Evidence, address: Bdf) -> Check:
    """Return whether the ports above the function send all that it says up to the IOMMU."""
    item = "ACS in the ports above"
    above = ports_above(evidence, address)
    unread = [port for port in above if not port.is_verbose]
    if not above or unread:
        why = f"what {unread[0].address} has is not shown" if unread else "no port above it is shown"
        return Check(item=item, answer=Answer.UNKNOWN, why=why, remedy="give lspci -vvv of all functions, as root")
    for port in above:
        if port.detail("ACSCtl:") is None:
            why = f"{port.address} has none"
            return Check(item=item, answer=Answer.NO, why=why, evidence=(port.reference,))
        if off := [bit for bit in _ACS_BITS if not port.flag("ACSCtl:", bit)]:
            why = f"{port.address} has {', '.join(f'{bit}-' for bit in off)}"
            remedy = "Linux enables it where an IOMMU is in use"
            return Check(item=item, answer=Answer.NO, why=why, evidence=port.cite("ACSCtl:"), remedy=remedy)
    places = tuple(place for port in above for place in port.cite("ACSCtl:"))
    names = ", ".join(str(port.address) for port in above)
    return Check(
        item=item, answer=Answer.YES, why=f"{names}: {' '.join(f'{each}+' for each in _ACS_BITS)}", evidence=places
    )


def ports_above(evidence: Evidence, address: Bdf) -> tuple[Function, ...]:
    """Return the bridges above a function, the nearest last."""
    functions = evidence.pci.functions if evidence.pci else ()
    return tuple(
        each for each in functions if each.address.domain == address.domain and address.bus in each.buses_below
    )


def groups(evidence: Evidence) -> Mapping[Bdf, Cited]:
    """Return the IOMMU group of each function that has one, and what cites it; /sys is newer than the log."""
    found = evidence.log.find(_GROUP) if evidence.log else []
    return {Bdf.parse(match[1]): (match[2], record.reference) for match, record in found} | dict(evidence.sysfs.groups)

"""What a host needs to pass a function through to a VM, item by item, each with the lines it rests on.

Sources: drivers/vfio/pci/vfio_pci.c; sriov_enable() in drivers/pci/iov.c; pci_reset_fn_methods in drivers/pci/pci.c.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.explain.check import Answer, Check
from testbed.explain.iommu import acs, group, in_use, remapping
from testbed.explain.resources import VFS_NEED, vfs_refused, without_room
from testbed.explain.service import CITED
from testbed.model.errors import InputError
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.explain.evidence import Evidence
    from testbed.explain.lspci import Function

_SRIOV = re.compile(r"Capabilities: \[[0-9a-f]{3}(?: v[0-9])?\] Single Root I/O Virtualization")
_TOTAL = re.compile(r"Total VFs: ([0-9]{1,5})")
_NO_BUS = re.compile(r"([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]): SR-IOV: bus number out of range")
_RESERVED = re.compile(
    r"([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]): (?:Device is ineligible for IOMMU domain attach .{0,120})"
)
_FUNCTION = re.compile(r"(?<![0-9a-f:])[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7](?![0-9a-f])")
_VFIO_STARTED = re.compile(r"^VFIO - User Level meta-driver")
#: functions that an error message names
_NAMED = 4


def check_host(evidence: Evidence, address: Bdf) -> tuple[Check, ...]:
    """Return the check list for a function; raise InputError if lspci does not list it, or no file names it."""
    functions = evidence.pci.functions if evidence.pci else ()
    function = next((each for each in functions if each.address == address), None)
    if function is None:
        _check_named(evidence, address)
    return (
        in_use(evidence, address),
        remapping(evidence),
        group(evidence, address),
        acs(evidence, address),
        *_reserved(evidence, address),
        _vfio(evidence, function, vfs=bool(_total_vfs(evidence, address, function)[0])),
        *_sriov(evidence, address, function),
        _reset(evidence, address, function),
    )


def _check_named(evidence: Evidence, address: Bdf) -> None:
    """Raise InputError if lspci does not list a function, or no file names it; one without any is about the host."""
    listed = [each.address for each in evidence.pci.functions] if evidence.pci else []
    if evidence.pci and evidence.pci.is_whole:
        raise InputError(f"checking {address}: lspci does not list it", hint=f"it lists {_some(listed)}")
    texts = [record.text for record in evidence.log.records] if evidence.log else []
    texts += [row.handlers for row in evidence.interrupts.rows] if evidence.interrupts else []
    named = {
        *listed,
        *evidence.sysfs.groups,
        *evidence.sysfs.files,
        *(Bdf.parse(match) for text in texts for match in _FUNCTION.findall(text)),
    }
    if named and address not in named:
        raise InputError(f"checking {address}: none of the files names it", hint=f"they name {_some(sorted(named))}")


def _some(addresses: Sequence[Bdf]) -> str:
    more = " …" if len(addresses) > _NAMED else ""
    return ", ".join(map(str, addresses[:_NAMED])) + more


def _reserved(evidence: Evidence, address: Bdf) -> tuple[Check, ...]:
    """Return that the firmware keeps memory of the function's for itself; nothing where no line says so."""
    found = [
        record
        for match, record in (evidence.log.find(_RESERVED) if evidence.log else [])
        if Bdf.parse(match[1]) == address
    ]
    return tuple(
        Check(
            item="no memory reserved by the firmware",
            answer=Answer.NO,
            why=record.text,
            evidence=(record.reference,),
            remedy="the platform's vendor must release it (RMRR): another slot or firmware",
        )
        for record in found[:1]
    )


def _vfio(evidence: Evidence, function: Function | None, *, vfs: bool) -> Check:
    """Return whether vfio-pci has the function, or can be given it."""
    item = "vfio-pci"
    if function and function.driver == "vfio-pci":
        why = f"it has {function.address}"
        return Check(item=item, answer=Answer.YES, why=why, evidence=function.cite("Kernel driver in use:"))
    has = f"{function.address} belongs to {function.driver}" if function and function.driver else ""
    cited = function.cite("Kernel driver in use:") if function and function.driver else ()
    bind = _binding(function, vfs=vfs)
    modules = evidence.modules
    if modules and (loaded := modules.loaded.get("vfio_pci")):
        why = "; ".join(filter(None, ("the module is loaded", has)))
        return Check(item=item, answer=Answer.YES, why=why, evidence=(loaded, *cited), remedy=bind)
    if modules and modules.whole:
        why = "; ".join(filter(None, ("the module is not loaded", has)))
        places = (modules.span, *cited)
        return Check(item=item, answer=Answer.NO, why=why, evidence=places, remedy=f"modprobe vfio-pci; {bind}")
    if evidence.log and (started := evidence.log.find(_VFIO_STARTED)):
        why = "; ".join(filter(None, ("VFIO has started", has)))
        return Check(item=item, answer=Answer.YES, why=why, evidence=(started[0][1].reference, *cited), remedy=bind)
    return Check(item=item, answer=Answer.UNKNOWN, why=has or "not shown", evidence=cited, remedy="give lsmod")


def _binding(function: Function | None, *, vfs: bool) -> str:
    """Return how vfio-pci gets the function; a PF that is to have VFs stays with its driver."""
    driver = function.driver if function else ""
    steps = "write vfio-pci to its driver_override and its address to /sys/bus/pci/drivers_probe"
    whole = f"unbind it, {steps}" if driver else steps
    if not vfs:
        return whole
    keep = f"to pass a VF: leave it with {driver or 'its driver'}, enable VFs, and check the VF"
    return f"{keep}; to pass it whole: {whole}"


def _sriov(evidence: Evidence, address: Bdf, function: Function | None) -> tuple[Check, ...]:
    """Return whether the function can have VFs, and there is room for them."""
    item = "SR-IOV"
    total, cited = _total_vfs(evidence, address, function)
    if total is None:
        shown = function is not None and function.is_verbose
        room = _room(evidence, address, function)
        # a kernel that found no room for them has seen the capability
        refused = (room,) if room.answer is Answer.NO else ()
        why = "the function has no SR-IOV capability" if shown else "its capabilities are not shown"
        remedy = "" if shown else "give lspci -vvv as root; it is needed only to pass a VF through"
        answer = Answer.UNKNOWN if refused or not shown else Answer.IDLE
        return (Check(item=item, answer=answer, why=why, evidence=cited, remedy=remedy), *refused)
    answer = Answer.YES if total else Answer.NO
    remedy = "" if total else "switch SR-IOV on in the firmware setup and in the card's"
    return (
        Check(item=item, answer=answer, why=f"{total} VFs at most", evidence=cited, remedy=remedy),
        _room(evidence, address, function),
    )


def _total_vfs(evidence: Evidence, address: Bdf, function: Function | None) -> tuple[int | None, tuple[str, ...]]:
    """Return how many VFs the function can have, None if it is not shown to be able to; and what cites it."""
    if file := evidence.sysfs.file(address, "sriov_totalvfs"):
        return int(file[0]) if file[0].isdecimal() else None, (file[1],)
    if function is None:
        return None, ()
    if not any(_SRIOV.match(text) for text, _ in function.details):
        return None, (function.reference,)
    found = [(match, place) for text, place in function.details if (match := _TOTAL.search(text))]
    return (int(found[0][0][1]), (found[0][1],)) if found else (None, (function.reference,))


def _room(evidence: Evidence, address: Bdf, function: Function | None) -> Check:
    """Return whether the VFs' BARs and bus numbers fit below the port."""
    item = "room for the VFs"
    if said := vfs_refused(evidence).get(address):
        return Check(item=item, answer=Answer.NO, why=said.text, evidence=(said.reference,), remedy=VFS_NEED)
    buses = [
        record
        for match, record in (evidence.log.find(_NO_BUS) if evidence.log else [])
        if Bdf.parse(match[1]) == address
    ]
    if buses:
        remedy = "more bus numbers below the port: switch ARI on, or see the firmware setup"
        where = (buses[-1].reference,)
        return Check(item=item, answer=Answer.NO, why=buses[-1].text, evidence=where, remedy=remedy)
    if failed := [record for each, record in without_room(evidence, "VF BAR") if each == address]:
        places = tuple(record.reference for record in failed[:CITED])
        return Check(item=item, answer=Answer.NO, why=failed[0].text, evidence=places, remedy=VFS_NEED)
    regions = _vf_regions(function) if function else []
    if regions and not any("unassigned" in text or "at 0000000000000000" in text for text, _ in regions):
        return Check(item=item, answer=Answer.YES, why="the VFs' BARs are assigned", evidence=(regions[0][1],))
    if regions:
        why = "the VFs' BARs are not assigned"
        return Check(item=item, answer=Answer.NO, why=why, evidence=(regions[0][1],), remedy=VFS_NEED)
    return Check(item=item, answer=Answer.UNKNOWN, why="not shown", remedy="give lspci -vvv as root")


def _vf_regions(function: Function) -> list[tuple[str, str]]:
    """Return the lines of the BARs of the VFs, which stand within the SR-IOV capability."""
    start = next((place for place, (text, _) in enumerate(function.details) if _SRIOV.match(text)), None)
    if start is None:
        return []
    rest = function.details[start + 1 :]
    end = next((place for place, (text, _) in enumerate(rest) if text.startswith("Capabilities:")), len(rest))
    return [line for line in rest[:end] if line[0].startswith("Region ")]


def _reset(evidence: Evidence, address: Bdf, function: Function | None) -> Check:
    """Return how the function can be reset between two VMs."""
    item = "a reset of its own"
    if file := evidence.sysfs.file(address, "reset_method"):
        own = [each for each in file[0].split() if each != "bus"]
        answer = Answer.YES if file[0] else Answer.NO
        why = f"reset_method: {file[0] or 'none'}" + ("" if own or not file[0] else " (with all that is on its bus)")
        return Check(item=item, answer=answer, why=why, evidence=(file[1],))
    ask = f"give: grep . /sys/bus/pci/devices/{address}/reset_method"
    if function is None or not function.is_verbose:
        return Check(item=item, answer=Answer.UNKNOWN, why="its capabilities are not shown", remedy=ask)
    for line, flag in (("DevCap:", "FLReset"), ("AFCap:", "FLR")):
        # the flag stands on one of the lines that follow
        found = next((place for text, place in function.details if f"{flag}+" in text.split()), "")
        if found and function.detail(line):
            return Check(item=item, answer=Answer.YES, why=f"{flag}+", evidence=(found,))
    if function.flag("Status: D0", "NoSoftRst") is False:
        why = "leaving D3hot resets it (NoSoftRst-)"
        return Check(item=item, answer=Answer.YES, why=why, evidence=function.cite("Status: D0"))
    why = "no FLR, and D3hot does not reset it: a reset of its bus only, if nothing else is there"
    return Check(item=item, answer=Answer.UNKNOWN, why=why, evidence=(function.reference,), remedy=ask)

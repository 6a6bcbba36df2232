"""BARs that got no room, told apart from what only looks like one in a log.

Older logs number a function's resources: 0 to 5 are its BARs, 6 its ROM, then with CONFIG_PCI_IOV 7 to 12 the BARs of
its VFs and 13 to 16 a bridge's windows, without it 7 to 10 the windows (include/linux/pci.h, PCI_IOV_RESOURCES,
PCI_BRIDGE_RESOURCES). Later ones name them (pci_resource_name() in drivers/pci/pci.c): `VF BAR 0`, `bridge window`. A
resource may fail and be assigned later on: what is said of it last counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from testbed.explain.service import CITED, counted
from testbed.explain.statement import Statement
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from testbed.explain.evidence import Evidence
    from testbed.model.kernel_log import LogRecord

_RESOURCE = re.compile(
    r"^\S{1,30} ([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]): (VF BAR|BAR|ROM|bridge window) ?([0-9]{0,2})"
    r"(?::| ?\[)(.{0,120})"
)
_FAILED = re.compile(r"no space|failed to assign|can't assign")
_ASSIGNED = re.compile(r"assigned|reassigned|claimed")
_IO = re.compile(r"\bio  ?(?:size )?0x")
_BRIDGE = re.compile(
    r"(?:pcieport |pci (?=\S{7,20}: (?:\[[0-9a-f:]{9}\] type 01|PCI bridge to)))"
    r"([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
)


#: drivers/pci/iov.c, sriov_enable(): somebody wanted VFs, and got none
_VFS_REFUSED = re.compile(r"([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]): not enough MMIO resources for SR-IOV")
VFS_NEED = 'switch on "Above 4G Decoding" in the firmware setup; or boot with pci=realloc'


class _Resource(NamedTuple):
    function: Bdf
    kind: str  #: `BAR`, `VF BAR`, `ROM` or `bridge window`
    number: int


def unassigned(evidence: Evidence) -> Iterator[Statement]:
    """Yield what got no room in the end."""
    failed = _failed(evidence)
    bars = {each: record for each, record in failed.items() if each.kind == "BAR"}
    yield from _statement(
        {each: record for each, record in bars.items() if not _IO.search(record.text)},
        "no room for its BAR behind the port: reserve some (pci=hpmmiosize=, or the port's pref64-reserve)",
        suspicious=True,
    )
    yield from _statement(
        {each: record for each, record in bars.items() if _IO.search(record.text)},
        "no I/O space for its BAR: a driver that has the memory BARs rarely needs it",
    )
    yield from _statement(
        {each: record for each, record in failed.items() if each.kind == "VF BAR"},
        "no room for the BARs of its VFs: they cannot be enabled; the function itself is not affected",
    )
    for function, record in vfs_refused(evidence).items():
        text = f"{function}: its VFs were requested, but there is no room for their BARs: {VFS_NEED}"
        yield Statement(text=text, evidence=(record.reference,), suspicious=True)
    yield from _statement(
        {each: record for each, record in failed.items() if each.kind == "bridge window"},
        "a window of the bridge is not assigned: it matters only to BARs of its kind below",
    )


def vfs_refused(evidence: Evidence) -> dict[Bdf, LogRecord]:
    """Return the functions whose VFs could not be enabled for lack of room, each with the last line that says so."""
    return {Bdf.parse(match[1]): record for match, record in (evidence.log.find(_VFS_REFUSED) if evidence.log else [])}


def without_room(evidence: Evidence, kind: str) -> list[tuple[Bdf, LogRecord]]:
    """Return the functions with resources of a kind that got no room, each with the line."""
    return [(each.function, record) for each, record in _failed(evidence).items() if each.kind == kind]


def _failed(evidence: Evidence) -> dict[_Resource, LogRecord]:
    """Return the resources that failed last, each with the line."""
    failed: dict[_Resource, LogRecord] = {}
    bridges = _bridges(evidence)
    for match, record in evidence.log.find(_RESOURCE) if evidence.log else []:
        resource = _resource(match, bridges)
        if _FAILED.search(match[4]):
            failed[resource] = record
        elif _ASSIGNED.search(match[4]):
            failed.pop(resource, None)
    return failed


def _bridges(evidence: Evidence) -> set[Bdf]:
    found = evidence.log.find(_BRIDGE) if evidence.log else []
    in_lspci = evidence.pci.bridges if evidence.pci else ()
    return {Bdf.parse(match[1]) for match, _ in found} | {each.address for each in in_lspci}


def _resource(match: re.Match[str], bridges: set[Bdf]) -> _Resource:
    function, kind, index = Bdf.parse(match[1]), match[2], int(match[3] or "0")
    if kind == "BAR" and index > 5:
        window = index > 12 or function in bridges
        kind = "ROM" if index == 6 else "bridge window" if window else "VF BAR"
    return _Resource(function, kind, index)


def _statement(failed: dict[_Resource, LogRecord], meaning: str, *, suspicious: bool = False) -> Iterator[Statement]:
    if failed:
        places = tuple(record.reference for record in list(failed.values())[:CITED])
        yield Statement(
            text=f"{_listed(each.function for each in failed)}: {meaning}", evidence=places, suspicious=suspicious
        )


def _listed(functions: Iterable[Bdf]) -> str:
    names = [str(each) for each in dict.fromkeys(functions)]
    more = f" and {counted(len(names) - CITED, 'other')}" if len(names) > CITED else ""
    return ", ".join(names[:CITED]) + more

"""The port services, and what shows that Linux runs one: its lines in the log, its interrupts, its bits in lspci.

The words are those of Linux 3.10 to 7.1: drivers/pci/pcie/{portdrv,aer,pme}.c, drivers/pci/hotplug/pciehp_hpc.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.explain.suspect import POLLED
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.explain.evidence import Evidence
    from testbed.explain.lspci import Function
    from testbed.model.osc import OscNegotiation

#: how many lines are cited where many say the same
CITED = 2


@dataclass(frozen=True, kw_only=True)
class Service:
    """One thing that either Linux or the platform does for the ports below a host bridge."""

    name: str
    bit: str  #: as `_OSC` lines spell it
    driver: str
    handler: str = ""  #: as /proc/interrupts names it; empty if it has no interrupt of its own
    words: re.Pattern[str] | None = None  #: what the driver says once it runs on a port
    config: str = ""  #: without it the kernel cannot ask for the bit
    flag: Callable[[Function], bool | None] | None = None  #: what lspci shows of it on a port
    flag_name: str = ""
    flag_line: str = ""


HOTPLUG = Service(
    name="hot-plug",
    bit="PCIeHotplug",
    driver="pciehp",
    handler="pciehp",
    words=re.compile(r"pciehp\b.{0,60}Slot #[0-9]+ AttnBtn"),
    config="CONFIG_HOTPLUG_PCI_PCIE",
    flag=lambda port: port.flag("SltCtl:", "HPIrq") if port.flag("SltCap:", "HotPlug") else None,
    flag_name="HPIrq",
    flag_line="SltCtl:",
)
AER = Service(
    name="AER",
    bit="AER",
    driver="aerdrv",
    handler="aerdrv",
    words=re.compile(r"AER:? enabled with IRQ|service driver aer loaded"),
    config="CONFIG_PCIEAER",
    flag=lambda port: port.flag("RootCmd:", "FERptEn"),
    flag_name="FERptEn",
    flag_line="RootCmd:",
)
PME = Service(
    name="PME",
    bit="PME",
    driver="pcie_pme",
    handler="PCIe PME",
    words=re.compile(r"PME: Signaling with IRQ|Signaling PME with IRQ|service driver pcie_pme loaded"),
    config="CONFIG_PCIE_PME",
)
SHPC = Service(name="SHPC hot-plug", bit="SHPCHotplug", driver="shpchp", config="CONFIG_HOTPLUG_PCI_SHPC")
LTR = Service(name="LTR", bit="LTR", driver="PCI core")
DPC = Service(name="DPC", bit="DPC", driver="pcie-dpc", config="CONFIG_PCIE_DPC")

#: whose rows are always there
MAIN = (HOTPLUG, AER, PME)
#: whose rows are there if the log names them
OTHERS = (SHPC, DPC, LTR)

_ADDRESS = re.compile(r"\b[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What shows that a service runs, or that it does not."""

    running: tuple[str, ...] = ()  #: what shows that it runs, in words
    absent: tuple[str, ...] = ()  #: what shows that it does not
    running_at: tuple[str, ...] = ()
    absent_at: tuple[str, ...] = ()


def look(service: Service, evidence: Evidence, osc: OscNegotiation | None) -> Seen:
    """Look for a service below a host bridge, or anywhere if it is not known what stands below which."""
    if service is HOTPLUG and evidence.has(POLLED):
        return _in_log(service, evidence, osc)
    looked = [
        _in_log(service, evidence, osc),
        _in_interrupts(service, evidence, osc),
        _in_lspci(service, evidence, osc),
    ]
    return Seen(
        running=tuple(text for each in looked for text in each.running),
        absent=tuple(text for each in looked for text in each.absent),
        running_at=tuple(place for each in looked for place in each.running_at),
        absent_at=tuple(place for each in looked for place in each.absent_at),
    )


def counted(number: int, noun: str) -> str:
    """Return `1 port`, `2 ports`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _in_log(service: Service, evidence: Evidence, osc: OscNegotiation | None) -> Seen:
    if evidence.log is None or service.words is None:
        return Seen()
    lines: dict[str, str] = {}
    for _, record in evidence.log.find(service.words):
        match = _ADDRESS.search(record.text)
        if match and (osc is None or osc.buses is None or osc.is_above(Bdf.parse(match[0]))):
            lines.setdefault(match[0], record.reference)
    if not lines:
        return Seen()
    text = f"{service.driver} started on {counted(len(lines), 'port')}"
    return Seen(running=(text,), running_at=tuple(lines.values())[:CITED])


def _in_interrupts(service: Service, evidence: Evidence, osc: OscNegotiation | None) -> Seen:
    # the table does not say below which host bridge a line's port stands
    if evidence.interrupts is None or not service.handler or (osc is not None and len(evidence.bridges) > 1):
        return Seen()
    rows = evidence.interrupts.serving(service.handler)
    if rows:
        text = f"{service.handler} has {counted(len(rows), 'interrupt')}"
        return Seen(running=(text,), running_at=tuple(row.reference for row in rows[:CITED]))
    if evidence.interrupts.whole and evidence.interrupts.rows:
        return Seen(absent=(f"{service.handler} has no interrupt",), absent_at=(evidence.interrupts.span,))
    return Seen()


def _in_lspci(service: Service, evidence: Evidence, osc: OscNegotiation | None) -> Seen:
    if evidence.pci is None or service.flag is None:
        return Seen()
    ports = [port for port in evidence.pci.functions if osc is None or osc.buses is None or osc.is_above(port.address)]
    on = [port for port in ports if service.flag(port) is True]
    off = [port for port in ports if service.flag(port) is False]
    running, absent = _flagged(service, "+", on), _flagged(service, "-", off)
    return Seen(
        running=running[0],
        absent=absent[0] if not on else (),
        running_at=running[1],
        absent_at=absent[1] if not on else (),
    )


def _flagged(service: Service, sign: str, ports: list[Function]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not ports:
        return (), ()
    places = tuple(place for port in ports[:CITED] for place in port.cite(service.flag_line))
    return (f"{service.flag_name}{sign} on {counted(len(ports), 'port')}",), places

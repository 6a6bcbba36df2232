"""The port services, and what shows that Linux runs one: its lines in the log, its interrupts, its bits in lspci.

A driver that says anything of a port at run time runs on it, whatever the beginning of the log would have said; that it
says nothing proves nothing. The words are those of Linux 2.6.32 to 7.1: drivers/pci/pcie/{portdrv,aer,pme,dpc}.c,
drivers/pci/hotplug/pciehp_{core,ctrl,hpc}.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.explain.suspect import POLLED
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    start: re.Pattern[str] | None = None  #: what the driver says as it starts on a port
    run: re.Pattern[str] | None = None  #: what only the running driver says
    config: str = ""  #: without it the kernel cannot ask for the bit
    flag: Callable[[Function], bool | None] | None = None  #: what lspci shows of it on a port
    flag_name: str = ""
    flag_line: str = ""


HOTPLUG = Service(
    name="hot-plug",
    bit="PCIeHotplug",
    driver="pciehp",
    handler="pciehp",
    start=re.compile(r"pciehp\b.{0,60}(?:Slot #[0-9]+ AttnBtn|HPC vendor_id|service driver pciehp loaded)"),
    # "pciehp 0000:00:02.2:pcie004: Slot(0-2): …" up to 4.x, "pcieport 0000:00:02.0: pciehp: Slot(1): …" since
    run=re.compile(
        r"pci(?:ehp|eport) [0-9a-f:.]{7,20}(?::pcie[0-9a-f]{2,3})?: (?:pciehp: )?(?:Slot\([^)]{1,20}\):? "
        r"|(?:Card|Latch|Button|Surprise Removal|Power fault|Link (?:Up|Down)).{0,30}\bSlot\("
        r"|PCI slot #\S{1,10} - powering)"
    ),
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
    start=re.compile(r"AER:? enabled with IRQ|service driver aer loaded"),
    run=re.compile(
        r": AER: (?:Multiple )?(?:Unc|C)orrect(?:ed|able).{0,14} [Ee]rror (?:message )?received"
        r"|aer_inject: Injecting errors"
    ),
    config="CONFIG_PCIEAER",
    flag=lambda port: port.flag("RootCmd:", "FERptEn") if port.is_bridge else None,
    flag_name="FERptEn",
    flag_line="RootCmd:",
)
PME = Service(
    name="PME",
    bit="PME",
    driver="pcie_pme",
    handler="PCIe PME",
    start=re.compile(
        r"PME: Signaling with IRQ|Signaling PME with IRQ|service driver pcie_pme loaded"
        r"|pcieport \S{7,20}: Signaling PME through PCIe PME"
    ),
    run=re.compile(r"PME: Spurious native interrupt"),
    config="CONFIG_PCIE_PME",
)
SHPC = Service(name="SHPC hot-plug", bit="SHPCHotplug", driver="shpchp", config="CONFIG_HOTPLUG_PCI_SHPC")
LTR = Service(name="LTR", bit="LTR", driver="PCI core")
DPC = Service(
    name="DPC",
    bit="DPC",
    driver="pcie-dpc",
    handler="pcie-dpc",
    start=re.compile(r"DPC: enabled with IRQ|DPC:? error containment capabilities"),
    run=re.compile(r"DPC: containment event"),
    config="CONFIG_PCIE_DPC",
)

#: whose rows are always there
MAIN = (HOTPLUG, AER, PME)
#: whose rows are there if the log names them
OTHERS = (SHPC, DPC, LTR)

_ADDRESS = re.compile(r"\b[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
#: the firmware owns DPC and has the kernel recover the port (drivers/pci/pcie/edr.c): then DPC's words prove nothing
_EDR = re.compile(r"EDR: EDR event received")


@dataclass(frozen=True, kw_only=True)
class Signs:
    """What shows that a service runs, or that it does not."""

    running: tuple[str, ...] = ()  #: what shows that it runs, in words
    absent: tuple[str, ...] = ()  #: what shows that it does not
    running_at: tuple[str, ...] = ()
    absent_at: tuple[str, ...] = ()


def look(service: Service, evidence: Evidence, takes: Callable[[Bdf], bool] | None = None) -> Signs:
    """Look for a service on the ports that `takes` accepts, or anywhere; /proc/interrupts names no port."""
    signs = [_in_log(service, evidence, takes)]
    if service is not HOTPLUG or not evidence.has(POLLED):
        # the table does not say below which host bridge a line's port stands
        signs += [] if takes and len(evidence.bridges) > 1 else [_in_interrupts(service, evidence)]
        signs += [_in_lspci(service, evidence, takes)]
    return Signs(
        running=tuple(text for each in signs for text in each.running),
        absent=tuple(text for each in signs for text in each.absent),
        running_at=tuple(place for each in signs for place in each.running_at),
        absent_at=tuple(place for each in signs for place in each.absent_at),
    )


def below(osc: OscNegotiation) -> Callable[[Bdf], bool]:
    """Return what tells a port below a host bridge; any is if the log does not say which buses are."""
    return lambda address: osc.buses is None or osc.is_above(address)


def counted(number: int, noun: str) -> str:
    """Return `1 port`, `2 ports`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def ports_in_log(service: Service, evidence: Evidence) -> dict[Bdf, str]:
    """Return the ports on which a driver says that it runs, and the first line in which it does."""
    found: dict[Bdf, str] = {}
    for pattern in _patterns(service, evidence):
        for _, record in evidence.log.find(pattern) if evidence.log else []:
            if match := _ADDRESS.search(record.text):
                found.setdefault(Bdf.parse(match[0]), record.reference)
    if service is AER and not found:
        # whose announcements are not in an excerpt; of a contained link the DPC driver prints the errors
        errors = [] if evidence.errors.containments else evidence.errors.errors
        found = {each.device: each.first.reference for each in errors if not each.by_firmware}
    return found


def ports_of_edr(evidence: Evidence) -> list[str]:
    """Return the lines in which the firmware has the kernel recover a port, which shows that the firmware owns DPC."""
    return [record.reference for _, record in evidence.log.find(_EDR)] if evidence.log else []


def _patterns(service: Service, evidence: Evidence) -> list[re.Pattern[str]]:
    run = service.run
    if service is DPC and ports_of_edr(evidence):
        run = None
    return [pattern for pattern in (service.start, run) if pattern]


def _in_log(service: Service, evidence: Evidence, takes: Callable[[Bdf], bool] | None) -> Signs:
    lines = {place: at for place, at in ports_in_log(service, evidence).items() if takes is None or takes(place)}
    if not lines or evidence.log is None:
        return Signs()
    begun = service.start is not None and bool(evidence.log.find(service.start))
    names = ", ".join(map(str, list(lines)[:CITED]))
    started = f"{service.driver} started on {counted(len(lines), 'port')}"
    text = started if begun else f"{service.driver} is active at run time: {names}"
    return Signs(running=(text,), running_at=tuple(lines.values())[:CITED])


def _in_interrupts(service: Service, evidence: Evidence) -> Signs:
    if evidence.interrupts is None or not service.handler:
        return Signs()
    rows = evidence.interrupts.serving(service.handler)
    if rows:
        text = f"{service.handler} has {counted(len(rows), 'interrupt')}"
        return Signs(running=(text,), running_at=tuple(row.reference for row in rows[:CITED]))
    if evidence.interrupts.whole and evidence.interrupts.rows:
        return Signs(absent=(f"{service.handler} has no interrupt",), absent_at=(evidence.interrupts.span,))
    return Signs()


def _in_lspci(service: Service, evidence: Evidence, takes: Callable[[Bdf], bool] | None) -> Signs:
    if evidence.pci is None or service.flag is None:
        return Signs()
    ports = [port for port in evidence.pci.functions if takes is None or takes(port.address)]
    on = [port for port in ports if service.flag(port) is True]
    off = [port for port in ports if service.flag(port) is False]
    if on:
        return Signs(running=(_flagged(service, "+", on),), running_at=_cited(service, on))
    return Signs(absent=(_flagged(service, "-", off),), absent_at=_cited(service, off)) if off else Signs()


def _flagged(service: Service, sign: str, ports: list[Function]) -> str:
    return f"{service.flag_name}{sign} on {counted(len(ports), 'port')}"


def _cited(service: Service, ports: Iterable[Function]) -> tuple[str, ...]:
    return tuple(place for port in list(ports)[:CITED] for place in port.cite(service.flag_line))

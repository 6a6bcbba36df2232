"""Functions that a VM has, and what an error on their bus does to it.

The host's kernel tells every driver below the port of an error, whichever function had it (pcie_do_recovery() in
drivers/pci/pcie/err.c). vfio-pci hands it to the VM's QEMU by an eventfd (vfio_pci_core_aer_err_detected()), and QEMU
stops the VM (vfio_err_notifier_handler() in hw/vfio/pci.c): the guest hears nothing of it, and the host's recovery may
be successful all the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from testbed.explain.service import CITED
from testbed.explain.statement import Statement
from testbed.explain.step import Step
from testbed.model.aer import ErrorSeverity
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.explain.evidence import Evidence
    from testbed.explain.source import Line
    from testbed.model.aer_tally import ErrorCount

_STOPPED = re.compile(r"vfio_err_notifier_handler\(([^)]{1,80})\)")
_VFIO = re.compile(r"^vfio-pci ([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]): ")
#: the cases that show it, of a neighbour's error and of the function's own
NEIGHBOUR_CASE, OWN_CASE = "pf-aer-vm-hang", "aer-passthrough"


def passed_through(evidence: Evidence) -> Iterator[Statement]:
    """Yield the functions of VMs that an uncorrected error concerns, and the VMs that QEMU stopped."""
    for address, (place, error) in _concerned(evidence).items():
        where = "itself" if address == error.device else f"{error.device}, on its bus,"
        text = (
            f"{address} belongs to a VM (vfio-pci), and {where} had an uncorrected error: Linux notifies "
            "every driver below the port (pcie_do_recovery), vfio-pci notifies the VM's QEMU, and QEMU stops the VM "
            "(vfio_err_notifier_handler; run state internal-error), even if the host recovers"
        )
        yield Statement(text=text, evidence=tuple(dict.fromkeys((place, error.first.reference))), suspicious=True)
    for name, lines in _stopped(evidence).items():
        text = f"QEMU stopped the VM that has {name}: vfio-pci reported an error (vfio_err_notifier_handler)"
        yield Statement(text=text, evidence=tuple(line.reference for line in lines[:CITED]), suspicious=True)


def passthrough_steps(evidence: Evidence) -> Iterator[Step]:
    """Yield what was seen to help, and the case that shows it."""
    concerned = _concerned(evidence)
    if not concerned and not _stopped(evidence):
        return
    own = bool(concerned) and all(address == error.device for address, (_, error) in concerned.items())
    yield Step(
        why="bring the VM back with system_reset in its QEMU, since cont is refused (testbed revive does it); next "
        "time, remove the function from the VM before working on the host's device. To see it happen, and what helps",
        command=f"testbed run {OWN_CASE if own else NEIGHBOUR_CASE}",
    )


def _concerned(evidence: Evidence) -> dict[Bdf, tuple[str, ErrorCount]]:
    """Return the functions on vfio-pci that are told of an uncorrected error: what shows the driver, and the error."""
    errors = [each for each in evidence.errors.errors if each.severity is not ErrorSeverity.CORRECTABLE]
    concerned = {}
    for address, place in _on_vfio(evidence).items():
        error = next((each for each in errors if _reaches(evidence, each, address)), None)
        if error is not None:
            concerned[address] = (place, error)
    return concerned


def _on_vfio(evidence: Evidence) -> dict[Bdf, str]:
    """Return the functions that vfio-pci has, by lspci or by what the driver says of them, and the line."""
    lines = evidence.log.find(_VFIO) if evidence.log else []
    found = {Bdf.parse(match[1]): record.reference for match, record in reversed(lines)}
    functions = evidence.pci.functions if evidence.pci else ()
    return found | {
        each.address: each.cite("Kernel driver in use:")[0] for each in functions if each.driver == "vfio-pci"
    }


def _reaches(evidence: Evidence, error: ErrorCount, address: Bdf) -> bool:
    """Return whether a function is told of an error: it stands on the bus, or below a port that announced it."""
    if (address.domain, address.bus) == (error.device.domain, error.device.bus) and error.device not in error.ports:
        return True
    above = [port for port in (evidence.pci.functions if evidence.pci else ()) if port.address in error.ports]
    return any(address.domain == port.address.domain and address.bus in port.buses_below for port in above)


def _stopped(evidence: Evidence) -> dict[str, list[Line]]:
    """Return the functions of whose errors QEMU was told, and the lines that say so."""
    stopped: dict[str, list[Line]] = {}
    for line in evidence.qemu:
        if match := _STOPPED.search(line.text):
            stopped.setdefault(match[1], []).append(line)
    return stopped

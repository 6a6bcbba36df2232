"""Case needs: whether the QEMUs of this host have what the cells of a case ask for."""

from __future__ import annotations

from testbed.campaign.case import load_case
from testbed.machine.qemu_choice import choose_qemu
from testbed.machine.template import load_template
from testbed.model.errors import BedError, LackingError


def obstacles(name: str, asked: str = "") -> list[BedError]:
    """Return why cells of a case cannot run, each reason once; `asked` is the QEMU of cells that name none.

    A LackingError is something that another QEMU may have.
    """
    wrong: dict[str, BedError] = {}
    for cell in load_case(name).cells:
        try:
            choose_qemu(cell.qemu or asked, load_template(cell.machine).spec(cell.parameters))
        except BedError as error:
            wrong.setdefault(error.message, error)
    return list(wrong.values())


def lack_a_qemu(names: list[str]) -> list[str]:
    """Return the cases with cells for which this host has no QEMU."""
    return [name for name in names if any(isinstance(error, LackingError) for error in obstacles(name))]

"""Which QEMU runs a machine: the one asked for, or for `any` the first that has what the machine needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.host.qemu import find_qemu
from testbed.host.qemu_catalog import ANY, known_qemus
from testbed.machine.launch import check_spec
from testbed.model.errors import InputError, LackingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testbed.host.qemu import Qemu
    from testbed.model.spec import MachineSpec


def choose_qemu(asked: str, spec: MachineSpec) -> Qemu:
    """Return the QEMU for a machine, asked for by path, name or `any`; nothing is the default.

    Raises:
        LackingError: there is none of that name, or it lacks what the machine needs.
        InputError: it cannot be used.
    """
    if asked == ANY and (name := next(fitting_qemus(spec), None)):
        return find_qemu(name)
    qemu = find_qemu(asked)
    try:
        check_spec(spec, qemu)
    except LackingError as error:
        others = " or ".join(f"--qemu {name}" for name in fitting_qemus(spec))
        if not others:
            raise
        remedy = f"another QEMU of this host has it: {others}"
        raise LackingError(error.message, hint=remedy, remedy=remedy, lacking=error.lacking) from None
    return qemu


def fitting_qemus(spec: MachineSpec) -> Iterator[str]:
    """Yield the names of the host's QEMUs that have what a machine needs, the default first."""
    for name in known_qemus():
        try:
            check_spec(spec, find_qemu(name))
        except InputError:
            continue
        yield name

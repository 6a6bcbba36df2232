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


def check_age(qemu: Qemu, before: str) -> None:
    """Raise LackingError unless this QEMU is older than the version `before`; an empty one asks nothing.

    What a QEMU can do it is asked (testbed.host.qemu); only a bug that was mended without a trace in what it offers is
    known by the version.
    """
    if before and _number(qemu.version) >= _number(before):
        raise LackingError(
            f"QEMU {qemu.version.split()[0]}: this is documented for those before {before}",
            lacking=before,
            remedy=f"give an older QEMU: --qemu PATH, one before {before}",
        )


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(maxsplit=1)[0].split(".")[:2])


def fitting_qemus(spec: MachineSpec) -> Iterator[str]:
    """Yield the names of the host's QEMUs that have what a machine needs, the default first."""
    for name in known_qemus():
        try:
            check_spec(spec, find_qemu(name))
        except InputError:
            continue
        yield name

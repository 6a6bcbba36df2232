"""`testbed render`: a machine's description and the command that starts it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.campaign.prepared import prepare
from testbed.cli.libvirt_options import libvirt_options
from testbed.cli.options import SetupOptions, spliced
from testbed.cli.terminal import plain, show_progress
from testbed.machine.argv import VARIABLES, Channels, qemu_argv
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.campaign.prepared import Prepared


@spliced
def render(
    setup: SetupOptions,
    machine: Annotated[
        str, typer.Argument(help="Machine template, see: testbed list machines -v.", show_default=False)
    ] = "",
    from_libvirt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Print the template and parameters closest to a libvirt domain (virsh dumpxml NAME) instead.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print the machine's description and the QEMU command that starts it, ready to paste.

    In the pasted command the guest's console is the terminal; ttyS1 and QMP are sockets in the current folder.
    """
    if bool(machine) == bool(from_libvirt):
        raise InputError("render: expected a machine template or --from-libvirt FILE", hint="testbed render q35")
    if from_libvirt:
        for each in libvirt_options(from_libvirt):
            plain(each)
        return
    _print(prepare(setup.setup(machine), progress=show_progress))


def _print(prepared: Prepared) -> None:
    argv = qemu_argv(
        spec=prepared.spec,
        boot=prepared.boot,
        channels=Channels.called(prepared.spec, "{}.sock"),
        qemu=prepared.qemu,
        accel=prepared.accel,
        folder=Path(),
    )
    plain("\n".join(line for line in prepared.description.splitlines() if line.strip()))
    plain("")
    for disk in prepared.spec.disks:
        if disk.path is None:
            plain(f"truncate -s {disk.size_mib}M {disk.id}.raw")
    if prepared.firmware:
        plain(f"cp {shlex.quote(str(prepared.firmware.variables))} {VARIABLES}")
    plain(_pasteable(argv))


def _pasteable(argv: Sequence[str]) -> str:
    """Return the command with sockets that QEMU offers, and the console on the terminal."""
    words = []
    for word in argv:
        if word.startswith("socket,id=console"):
            words.append("stdio,id=console,signal=off")
        elif word.startswith("socket,id="):
            words.append(f"{word},server=on,wait=off")
        elif word != "-S":
            words.append(word)
    lines = (f" \\\n  {shlex.quote(word)}" if word.startswith("-") else f" {shlex.quote(word)}" for word in words)
    return "".join(lines).strip()

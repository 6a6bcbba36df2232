"""`testbed render`: a machine's description and the command that starts it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.libvirt_options import libvirt_options
from testbed.cli.options import AccelName, Cmdline, ImageName, Params, PathName, QemuName, given_parameters
from testbed.cli.terminal import plain, show_progress
from testbed.host.accel import choose_accel
from testbed.image.store import ensure_image
from testbed.machine.argv import Boot, Channels, qemu_argv
from testbed.machine.qemu_choice import choose_qemu
from testbed.machine.template import load_template
from testbed.model.cmdline import CommandLine
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


def render(
    machine: Annotated[
        str, typer.Argument(help="Machine template, see: testbed list machines.", show_default=False)
    ] = "",
    param: Params = None,
    cmdline: Cmdline = "",
    image: ImageName = "debian",
    qemu: QemuName = "",
    accel: AccelName = "auto",
    path: PathName = None,
    from_libvirt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Print instead which template and parameters are nearest to a libvirt domain (virsh dumpxml NAME).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print the machine's description and the QEMU command that starts it, ready to paste.

    In the pasted command the guest's console is the terminal's, ttyS1 and QMP are sockets in the current folder.
    """
    if bool(machine) == bool(from_libvirt):
        raise InputError("render: wanted is a machine template or --from-libvirt FILE", hint="testbed render q35")
    if from_libvirt:
        for each in libvirt_options(from_libvirt):
            plain(each)
        return
    template = load_template(machine)
    given = given_parameters(machine, param or [])
    line = CommandLine(cmdline)
    line.check()
    spec = template.spec(given)
    binary = choose_qemu(qemu, spec)
    chosen = choose_accel(accel, binary)
    built = ensure_image(image, progress=show_progress)
    boot = Boot(kernel=built.kernel_file, initramfs=built.initramfs, cmdline=line.with_prefix())
    here = Path()
    argv = qemu_argv(
        spec=spec,
        boot=boot,
        channels=Channels.called(spec, "{}.sock"),
        qemu=binary,
        accel=chosen,
        folder=here,
    )
    plain("\n".join(rendered for rendered in template.render(given).splitlines() if rendered.strip()))
    plain("")
    for disk in spec.disks:
        if disk.path is None:
            plain(f"truncate -s {disk.size_mib}M {disk.id}.raw")
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

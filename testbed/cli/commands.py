"""The commands by name: each is imported when it is called, and none for the help of all."""

from __future__ import annotations

import gc
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
import typer.core
import typer.main

from testbed.model.catalog import unknown

if TYPE_CHECKING:
    from types import ModuleType


@dataclass(frozen=True, kw_only=True)
class Lazy:
    """Where a command is, and what is said of it among the others."""

    module: str  #: of `testbed.cli`
    name: str  #: of the function, or of the app with further commands
    help: str  #: the first line of its docstring
    examples: tuple[str, ...] = ()


COMMANDS = {
    "run": Lazy(
        module="run",
        name="run",
        help="Run documented cases, or scenarios on a machine of your choice, and judge what the guest did.",
        examples=(
            "testbed run pcie-aspm-off",
            "testbed run disk-unplug --machine q35 -p hotplug=native --cmdline 'quiet pcie_aspm=off'",
            "testbed run --all --json result.json",
        ),
    ),
    "compare": Lazy(
        module="compare",
        name="compare",
        help="Run scenarios on several machines, command lines, kernels or QEMUs, and show only what differs.",
        examples=(
            "testbed compare disk-unplug -m 'q35\\[hotplug=native]' -m i440fx --cmdline pcie_aspm=off",
            "testbed compare disk-unplug -m 'pc-q35-*' --cmdline pcie_aspm=off",
        ),
    ),
    "bisect": Lazy(
        module="bisect",
        name="bisect",
        help="Find which command-line options flip a scenario's verdict, prove it, and print the line without them.",
        examples=(
            "testbed bisect disk-unplug -p hotplug=native --cmdline 'quiet pcie_aspm=off nomodeset'",
            "testbed bisect disk-unplug --over machine -m pc-q35-6.1 -m pc-q35-6.0 --cmdline pcie_aspm=off",
        ),
    ),
    "matrix": Lazy(
        module="matrix",
        name="matrix",
        help="Run every combination of scenarios, machines, command lines and more, from a file or from options.",
        examples=(
            "testbed matrix matrix.yaml --json result.json",
            "testbed matrix disk-unplug disk-plug -m q35 -m i440fx --cmdline '' --cmdline pcie_aspm=off",
        ),
    ),
    "atlas": Lazy(
        module="atlas",
        name="atlas",
        help="Run documented bugs on many kernels and QEMUs: where is each reproduced, and since which version?",
        examples=(
            "testbed atlas pcie-aspm-off --qemu bullseye --qemu trixie-backports --page atlas.md",
            "testbed atlas --image debian --image debian-backports --json atlas.json",
        ),
    ),
    "boot": Lazy(
        module="boot",
        name="boot",
        help="Boot a machine and look around in it: plug, unplug, inject, QMP, and a shell on the guest's console.",
        examples=("testbed boot q35 -p hotplug=native", "printf 'unplug dev1\\nlog 5\\n' | testbed boot q35"),
    ),
    "inject": Lazy(
        module="inject",
        name="inject",
        help="Boot a machine, inject PCIe errors into devices, and report what became of each.",
        examples=(
            "testbed inject q35 -p devices=e1000e --device dev1 --error COMP_ABORT",
            "testbed inject q35 --device rp1 --all --route qemu",
        ),
    ),
    "mmio": Lazy(module="mmio", name="mmio_app", help="A guest's accesses to device registers."),
    "pci": Lazy(module="pci", name="pci_app", help="Inspect the configuration space of PCI functions."),
    "explain": Lazy(
        module="explain",
        name="explain",
        help="Work out from a machine's logs who controls hot-plug, AER and PME, and why; boots nothing.",
        examples=(
            "testbed explain dmesg.txt cmdline.txt interrupts.txt lspci.txt",
            "journalctl -k -b | testbed explain - /proc/cmdline /proc/interrupts",
        ),
    ),
    "render": Lazy(
        module="render",
        name="render",
        help="Print the machine's description and the QEMU command that starts it, ready to paste.",
        examples=("testbed render q35 -p hotplug=native --cmdline pcie_aspm=off",),
    ),
    "report": Lazy(
        module="report",
        name="report",
        help="Report on finished runs: every cell at or below the rundirs, as a table or in files; an atlas as one.",
        examples=(
            "testbed report testbed-runs/20261121-131746-25083 --html report.html",
            "testbed report testbed-runs --junit junit.xml --ktap results.ktap --trace trace.json",
        ),
    ),
    "bundle": Lazy(
        module="bundle",
        name="bundle",
        help="Pack one cell for a bug report: image, logs, report, and a reproduce.sh that needs only QEMU and socat.",
        examples=("testbed bundle testbed-runs/20261121-131746-25083/disk-unplug/01-disk-unplug-q35",),
    ),
    "list": Lazy(
        module="listing",
        name="list_",
        help="List the cases, scenarios, machine templates and images; with -v their options and parameters.",
        examples=("testbed list scenarios -v",),
    ),
    "revive": Lazy(
        module="revive",
        name="revive",
        help="Watch a running QEMU, and reset and continue its VM whenever a device error stops it.",
        examples=("testbed revive /run/vm1.qmp", "testbed revive localhost:4444 --most 1 --json"),
    ),
    "image": Lazy(module="image", name="image_app", help="Build, list and remove guest images; look into disk images."),
    "qemu": Lazy(module="qemu", name="qemu_app", help="List this host's QEMUs, fetch another, remove it again."),
    "cache": Lazy(module="cache", name="cache_app", help="Show, clear, export and import the saved guests."),
    "doctor": Lazy(
        module="doctor",
        name="doctor",
        help="Check whether this host is ready; name what is missing or half-working, and the command that fixes it.",
        examples=("testbed doctor --json",),
    ),
    "clean": Lazy(
        module="clean",
        name="clean",
        help="Remove temporary folders left by killed test beds; with options also logs and images.",
        examples=("testbed clean --runs --dry-run",),
    ),
    "schema": Lazy(
        module="schema",
        name="schema",
        help="Print the JSON Schema of what `run`, `compare`, `bisect`, `matrix` or `atlas` writes with --json.",
        examples=("testbed schema run",),
    ),
    "version": Lazy(module="version", name="version", help="Print the version."),
}


class _Command(typer.core.TyperCommand):
    """A command for which typer imports nothing that its options do not need."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments."""
        return [_light(each) for each in super().get_params(ctx)]


def _light(parameter: Any) -> Any:
    """Return a parameter; a flag that is not given is off: of None typer makes a value with pydantic, in 0.1 s."""
    if getattr(parameter, "is_flag", False) and parameter.default is None:
        parameter.default = False
    return parameter


class _LazyGroup(typer.core.TyperGroup):
    """A group whose commands are imported when they are called."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options."""
        return [_light(each) for each in super().get_params(ctx)]

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the name of a command and what it is for, all that the help of the others needs."""
        return typer.core.TyperCommand(cmd_name, help=COMMANDS[cmd_name].help) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that is called, imported."""
        completing = ctx.resilient_parsing
        if args and not completing and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise unknown("command", args[0], COMMANDS)
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load(str(name)), rest


def load(name: str) -> Any:
    """Import a command and return it."""
    lazy = COMMANDS[name]
    found: Any = getattr(_imported(f"testbed.cli.{lazy.module}"), lazy.name)
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
    else:
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
        alone.command(name=name, cls=_Command, epilog=_epilog(lazy.examples))(found)
        command = typer.main.get_command(alone)
    command.name = name
    return command


def _imported(module: str) -> ModuleType:
    """Import a module without collections of garbage: they go through all that was imported, a tenth of the time."""
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.enable()


def _epilog(examples: tuple[str, ...]) -> str | None:
    if len(examples) < 2:
        return f"Example: {examples[0]}" if examples else None
    return "Examples:\n\n  " + "\n\n  ".join(examples)


app = typer.Typer(
    name="testbed",
    cls=_LazyGroup,
    help="Ask a real Linux guest in a real QEMU how it behaves: hot-plug, AER, SR-IOV, MMIO.",
    epilog="Exit codes: 0 good or as expected, 1 bad or differs, 125 skip, 128 broken, 2 wrong usage or input.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def _testbed() -> None:
    """Ask a real Linux guest in a real QEMU how it behaves: hot-plug, AER, SR-IOV, MMIO."""

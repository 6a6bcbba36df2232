"""Everything known of one guest, whatever it was read from: a customer's files, or a running guest of the bed's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from testbed.explain.interrupts import Interrupts, read_interrupts
from testbed.explain.kernel_log import BootLog, read_log
from testbed.explain.lspci import PciTree, read_lspci
from testbed.explain.source import Kind, Line, Part
from testbed.model.cmdline import CommandLine
from testbed.model.errors import InputError
from testbed.model.osc import OscNegotiation, read_bridges

if TYPE_CHECKING:
    from collections.abc import Sequence

_QEMU = re.compile(r"DMI: .{0,200}(?:QEMU|KVM|OpenStack)|ACPI: (?:RSDP|RSDT|XSDT|FACP) .{0,80}BOCHS")
_Q35, _I440FX = re.compile(r"DMI: .{0,200}Q35"), re.compile(r"DMI: .{0,200}i440FX", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known; None where nothing was given to know it from."""

    cmdline: CommandLine | None = None
    cmdline_at: str = ""
    log: BootLog | None = None
    bridges: tuple[OscNegotiation, ...] = ()
    interrupts: Interrupts | None = None
    pci: PciTree | None = None
    proc_cmdline: Line | None = None  #: the line of /proc/cmdline, if that was given

    def values(self, name: str) -> tuple[str, ...]:
        """Return every value given to an option of the command line, lists taken apart."""
        given = self.cmdline.values(name) if self.cmdline else []
        return tuple(part for value in given for part in value.split(","))

    def has(self, option: str) -> bool:
        """Return whether the command line has `NAME=VALUE`, be it in a list of values."""
        name, _, value = option.partition("=")
        return value in self.values(name)

    @cached_property
    def is_qemu(self) -> bool:
        """Return whether the machine is known to be QEMU's."""
        said = self.log is not None and bool(self.log.find(_QEMU))
        return said or (self.pci is not None and self.pci.is_qemu)

    @cached_property
    def machine(self) -> str:
        """Return `q35` or `i440fx`, by DMI, else by the host bridge, else by what `_OSC` names it; empty if unknown."""
        return self.machine_in_log or (self.pci.machine if self.pci else "") or self._by_bridge

    @cached_property
    def machine_in_log(self) -> str:
        """Return `q35` or `i440fx` if DMI says so."""
        if self.log is None:
            return ""
        return "q35" if self.log.find(_Q35) else "i440fx" if self.log.find(_I440FX) else ""

    @property
    def _by_bridge(self) -> str:
        if not self.is_qemu or not self.bridges:
            return ""
        return "q35" if self.bridges[0].is_express else "i440fx"


def gather(parts: Sequence[Part]) -> Evidence:
    """Return what the parts of all files say; raise InputError if two of them say the same thing twice."""
    log = _only(parts, Kind.LOG)
    interrupts = _only(parts, Kind.INTERRUPTS)
    boot = read_log(log) if log else None
    proc = _cmdline_of(_only(parts, Kind.CMDLINE))
    text, reference = (proc.text.strip(), proc.reference) if proc else boot.cmdline if boot else ("", "")
    lspci = [part for part in parts if part.kind is Kind.LSPCI]
    return Evidence(
        cmdline=CommandLine(text) if reference else None,
        cmdline_at=reference,
        log=boot,
        bridges=read_bridges(boot.records) if boot else (),
        interrupts=read_interrupts(interrupts) if interrupts else None,
        pci=read_lspci(lspci) if lspci else None,
        proc_cmdline=proc,
    )


def _only(parts: Sequence[Part], kind: Kind) -> Part | None:
    """Return the one part of a kind; lspci alone may come in several."""
    found = [part for part in parts if part.kind is kind]
    if len(found) > 1:
        first, second = found[0].file, found[1].file
        raise InputError(
            f"explaining {first} and {second}: both hold {kind}",
            hint="give the files of one guest and one boot at a time",
        )
    return found[0] if found else None


def _cmdline_of(part: Part | None) -> Line | None:
    return part.lines[-1] if part else None

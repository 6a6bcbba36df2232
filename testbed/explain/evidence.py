"""Everything known of one guest, whatever it was read from: a customer's files, or a running guest of the bed's."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from testbed.explain.interrupts import Interrupts, read_interrupts
from testbed.explain.kernel_log import BootLog, read_log
from testbed.explain.lspci import PciTree, read_lspci
from testbed.explain.source import Kind, Line, Part
from testbed.explain.sysfs import Modules, Sysfs, read_modules, read_sysfs
from testbed.model.cmdline import CommandLine
from testbed.model.errors import InputError
from testbed.model.osc import OscNegotiation, read_bridges
from testbed.model.pci import Bdf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.model.aer_tally import ErrorTally

_QEMU = re.compile(r"DMI: .{0,200}(?:QEMU|KVM|OpenStack)|ACPI: (?:RSDP|RSDT|XSDT|FACP) .{0,80}BOCHS")
#: a machine that a device tree describes, or s390: arch/arm64/kernel/setup.c, arch/powerpc/kernel/setup-common.c,
#: arch/riscv/kernel/sbi.c, arch/s390/kernel/setup.c, drivers/pci/of.c
_DEVICE_TREE = re.compile(
    r"^(?:(?:OF: fdt: )?Machine model: |psci: probing for conduit method from DT|OF: fdt: |SBI specification v"
    r"|Using .{1,40} machine description|setup(?:\.[0-9a-f]{6})?: Linux is running |MIPS: machine is "
    r"|\S{1,60} [0-9a-f]{4,16}\.\S{1,40}: (?:PCI )?host bridge |PCI host bridge /)",
    re.IGNORECASE,
)
_ACPI = re.compile(r"^(?:ACPI: (?:RSDP|XSDT|RSDT|Early table|Core revision|Interpreter enabled)|acpi (?:PNP|ACPI))")
_ACPI_DISABLED = re.compile(r"ACPI: Interpreter disabled")
#: a function or a port and where it stands
_EXPRESS_PORT = re.compile(
    r"(?:pcieport(?:-driver)? |pciehp |aer |pcie_pme )([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])"
    r"|pci ([0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]): \[[0-9a-f:]{9}\] type .{1,40} PCIe Root Port"
)
_PLAIN = re.compile(r"pci_root PNP0A03:|\[8086:1237\]|can't access extended PCI configuration space under this bridge")
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
    qemu: tuple[Line, ...] = ()  #: QEMU's logs of VMs on the machine
    sysfs: Sysfs = field(default_factory=Sysfs)
    modules: Modules | None = None

    @cached_property
    def errors(self) -> ErrorTally:
        """Return the PCIe errors that the log tells of."""
        # a third of the time that this module would take, and most questions are not about errors
        from testbed.model.aer_tally import ErrorTally, tally_errors  # noqa: PLC0415

        return tally_errors(self.log.records) if self.log else ErrorTally()

    @cached_property
    def without_acpi(self) -> tuple[str, ...]:
        """Return the lines by which the machine has no ACPI, or does not use it; empty if it may have it."""
        if self.has("acpi=off"):
            return self.cmdline_lines
        if self.log is None:
            return ()
        disabled = self.log.find(_ACPI_DISABLED)
        marks = disabled or ([] if self.log.find(_ACPI) else self.log.find(_DEVICE_TREE))
        return tuple(record.reference for _, record in marks[:1])

    def is_plain(self, osc: OscNegotiation) -> bool:
        """Return whether a host bridge has no PCI Express below it, as far as anything given tells.

        PNP0A03 alone does not say so: there are firmwares that call a PCI Express host bridge that. Up to 3.11 a log
        names the bus and not the kind.
        """
        if self._has_express_port(osc):
            return False
        if osc.bridge.startswith("PNP"):
            return not osc.is_express
        return self.log is not None and bool(self.log.find(_PLAIN))

    def _has_express_port(self, osc: OscNegotiation) -> bool:
        return any(osc.buses is None or osc.is_above(place) for place in self._express_ports)

    @cached_property
    def _express_ports(self) -> frozenset[Bdf]:
        found = self.log.find(_EXPRESS_PORT) if self.log else []
        in_log = [Bdf.parse(match[1] or match[2]) for match, _ in found]
        return frozenset([*in_log, *(each.address for each in self.pci.functions if each.port)] if self.pci else in_log)

    def is_below_acpi(self, address: Bdf) -> bool:
        """Return whether a function stands below a host bridge of ACPI's; VMD and Hyper-V have domains of their own."""
        return any(osc.buses is None or osc.is_above(address) for osc in self.bridges)

    def values(self, name: str) -> tuple[str, ...]:
        """Return every value given to an option of the command line, lists taken apart."""
        values = self.cmdline.values(name) if self.cmdline else []
        return tuple(part for value in values for part in value.split(","))

    @property
    def cmdline_lines(self) -> tuple[str, ...]:
        """Return what cites the command line, if it is known."""
        return (self.cmdline_at,) if self.cmdline_at else ()

    def has(self, option: str) -> bool:
        """Return whether the command line has `NAME=VALUE`, be it in a list of values."""
        name, _, value = option.partition("=")
        return value in self.values(name)

    @cached_property
    def is_qemu(self) -> bool:
        """Return whether the machine is known to be QEMU's."""
        by_log = self.log is not None and bool(self.log.find(_QEMU))
        return by_log or (self.pci is not None and self.pci.is_qemu)

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
    modules = _only(parts, Kind.MODULES)
    lspci = [part for part in parts if part.kind is Kind.LSPCI]
    return Evidence(
        cmdline=CommandLine(text) if reference else None,
        cmdline_at=reference,
        log=boot,
        bridges=read_bridges(boot.records) if boot else (),
        interrupts=read_interrupts(interrupts) if interrupts else None,
        pci=read_lspci(lspci) if lspci else None,
        proc_cmdline=proc,
        qemu=tuple(line for part in parts if part.kind is Kind.QEMU for line in part.lines),
        sysfs=read_sysfs(part for part in parts if part.kind is Kind.SYSFS),
        modules=read_modules(modules) if modules else None,
    )


def _only(parts: Sequence[Part], kind: Kind) -> Part | None:
    """Return the one part of a kind; only lspci, QEMU's logs and /sys may come in several."""
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

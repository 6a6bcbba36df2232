"""What a customer's file holds, told by its content: logs, /proc, /sys, lspci."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from testbed.explain.sysfs import is_module, is_sysfs
from testbed.model.cmdline import CommandLine
from testbed.model.errors import InputError
from testbed.model.log_line import is_log_line, is_unstamped
from testbed.model.pasted import MAX_LINE, decode, is_binary, refuse_packed, split_lines, unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: a whole day of a talkative kernel is some ten MB
MAX_BYTES = 64 << 20
ACCEPTED = (
    "give any of: the output of dmesg or journalctl -k, a serial console log, /proc/cmdline, /proc/interrupts, "
    "lspci -vvv (also -nn, -k, -t), QEMU's log of a VM, lsmod, IOMMU groups and files of /sys with their paths"
)


class Kind(enum.StrEnum):
    """What a part of a file is."""

    LOG = "kernel log"
    CMDLINE = "/proc/cmdline"
    INTERRUPTS = "/proc/interrupts"
    LSPCI = "lspci"
    QEMU = "QEMU's log"
    SYSFS = "/sys"
    MODULES = "lsmod"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a file."""

    file: str
    number: int
    text: str

    @property
    def reference(self) -> str:
        """Return what a statement cites."""
        return f"{self.file}:{self.number}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """The lines of a file that are of one kind."""

    kind: Kind
    file: str
    lines: tuple[Line, ...]

    @property
    def span(self) -> str:
        """Return the part's name with its first and last line."""
        first, last = self.lines[0].number, self.lines[-1].number
        return f"{self.kind} ({f'line {first}' if first == last else f'lines {first} to {last}'})"


#: no mail program wraps a line that is shorter
_WRAPPED = 55
_CMDLINE_MESSAGE = re.compile(r"[Cc]ommand line: ")

_CPUS = re.compile(r"\s*CPU[0-9]{1,5}(?:\s+CPU[0-9]{1,5})*\s*")
_INTERRUPT = re.compile(r"\s*[0-9A-Za-z]{1,8}:\s+[0-9]")
#: a row cut out of the table, as `grep pcie /proc/interrupts` leaves it
_LONE_INTERRUPT = re.compile(
    r"\s*[0-9]{1,5}:\s+[0-9][0-9\s]{0,12000}(?:IR-)?(?:PCI-MSI|IO-APIC|XT-PIC|DMAR|IR-|ITS-|GICv)"
)
_FUNCTION = re.compile(r"(?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7] \S")
_TREE = re.compile(
    r"[-+\\| ]{0,200}-?\[[0-9a-f]{4}:[0-9a-f]{2}(?:-[0-9a-f]{2})?\]-|[ |]{1,200}[+\\]-[0-9a-f]{2}\.[0-7]"
)
#: what QEMU itself says, and what libvirt puts around it in /var/log/libvirt/qemu
_QEMU = re.compile(
    r".{0,80}(?:qemu-(?:system-[a-z0-9_]{2,12}|kvm)(?:\[[0-9]{1,8}\])?: |vfio_(?:err|req)_notifier_handler\("
    r"|starting up libvirt version: |char device redirected to |shutting down, reason=)"
)
#: that of busybox goes on with what taints the kernel
_LSMOD = re.compile(r"Module\s{1,60}Size\s{1,60}Used by.{0,60}")
#: a line of /proc/modules by itself
_LIVE_MODULE = re.compile(r"[a-z0-9_]{1,60} [0-9]{1,10} [0-9-]{1,6} \S{1,2000} (?:Live|Loading|Unloading) 0x")
_HEX_DUMP = re.compile(r"[0-9a-f]{2,3}: [0-9a-f]{2}(?: [0-9a-f]{2})*$")

#: by one of these a lone line is known as a command line
_KNOWN_OPTIONS = frozenset(
    {
        "BOOT_IMAGE",
        "root",
        "ro",
        "rw",
        "rootflags",
        "rootfstype",
        "quiet",
        "splash",
        "rhgb",
        "console",
        "initrd",
        "init",
        "rdinit",
        "panic",
        "crashkernel",
        "earlyprintk",
        "nomodeset",
        "selinux",
        "audit",
        "loglevel",
        "debug",
        "single",
        "mitigations",
        "hugepages",
        "default_hugepagesz",
        "hugepagesz",
        "isolcpus",
        "nohz_full",
        "rcu_nocbs",
        "intel_iommu",
        "amd_iommu",
        "iommu",
        "acpi",
        "noapic",
        "nosmap",
        "clearcpuid",
        "maxcpus",
        "nr_cpus",
        "mem",
        "net.ifnames",
        "biosdevname",
        "transparent_hugepage",
        "rd.lvm.lv",
        "rd.md.uuid",
        "resume",
        "vconsole.keymap",
        "systemd.unit",
        "pci",
        "pcie_aspm",
        "pcie_ports",
        "pcie_pme",
        "acpiphp.disable",
        "module_blacklist",
        "modprobe.blacklist",
        "initcall_blacklist",
    }
)
#: with one of these a command line begins; by it one is known among other things
_FIRST_OPTIONS = frozenset({"BOOT_IMAGE", "root", "initrd", "console"})


def split_parts(file: str, data: bytes) -> tuple[Part, ...]:
    """Return what a file holds, each kind once, by their first lines; raise InputError if it is nothing of use."""
    _check(file, data)
    texts = unwrapped(split_lines(decode(data)), _is_known)
    lines = [Line(file=file, number=number, text=text) for number, text in enumerate(texts, 1)]
    kinds = _kinds(lines)
    lines = _with_wraps(lines, kinds)
    found = dict.fromkeys(kind for kind in kinds if kind is not None)
    if not found:
        raise InputError(f"reading {file}: not a kind of file that can be explained", hint=ACCEPTED)
    return tuple(
        Part(kind=kind, file=file, lines=tuple(line for line, of in zip(lines, kinds, strict=True) if of is kind))
        for kind in found
    )


def _check(file: str, data: bytes) -> None:
    """Raise InputError if a file cannot hold any text of use."""
    if len(data) > MAX_BYTES:
        raise InputError(f"reading {file}: {len(data) >> 20} MiB, at most {MAX_BYTES >> 20} are read", hint=ACCEPTED)
    refuse_packed(data, source=file, command="testbed explain -")
    if not data.strip():
        raise InputError(f"reading {file}: the file is empty", hint=ACCEPTED)
    if is_binary(data):
        raise InputError(f"reading {file}: the file is binary", hint=ACCEPTED)


def _is_known(text: str) -> bool:
    """Return whether a line is of one of the kinds by itself, whatever stands around it."""
    return _shape(text, None) is not None or is_unstamped(text) or _is_cmdline(text, alone=False)


def _kinds(lines: Sequence[Line]) -> list[Kind | None]:
    kinds = list(_shapes(lines))
    pairs = list(zip(lines, kinds, strict=True))
    if Kind.LOG not in kinds and any(kind is None and is_unstamped(line.text) for line, kind in pairs):
        # printk.time=0 and `journalctl -o cat` leave no stamps: then every other line is the kernel's too
        return [kind or (Kind.LOG if line.text.strip() else None) for line, kind in pairs]
    return _with_cmdline(lines, kinds)


def _with_wraps(lines: Sequence[Line], kinds: Sequence[Kind | None]) -> list[Line]:
    """Return the lines, each of a log's with what a mail program has wrapped of it onto lines of their own."""
    whole = list(lines)
    last = None
    for place, (line, kind) in enumerate(zip(lines, kinds, strict=True)):
        if kind is Kind.LOG:
            last = place
        elif last is not None and kind is None and line.text.strip() and _goes_on(whole[last].text):
            # quoted-printable marks its own wraps
            text = whole[last].text
            joined = text.removesuffix("=") if text.endswith("=") else f"{text.rstrip()} "
            whole[last] = replace(whole[last], text=(joined + line.text.strip())[:MAX_LINE])
        else:
            last = None
    return whole


def _goes_on(text: str) -> bool:
    """Return whether a message has been wrapped: a bracket of it is open, or it is a command line."""
    return (
        len(text) >= _WRAPPED
        and len(text) < MAX_LINE
        and (text.endswith("=") or text.count("[") != text.count("]") or text.count("(") != text.count(")"))
    ) or _CMDLINE_MESSAGE.search(text[:_WRAPPED]) is not None


def _shapes(lines: Sequence[Line]) -> Iterator[Kind | None]:
    """Determine each line's kind by its shape, and by the kind of the line before where it goes on."""
    before: Kind | None = None
    for line in lines:
        before = _shape(line.text, before)
        yield before


def _shape(text: str, before: Kind | None) -> Kind | None:
    if is_log_line(text):
        return Kind.LOG
    kind = None
    if (before is Kind.INTERRUPTS and _INTERRUPT.match(text)) or _CPUS.fullmatch(text) or _LONE_INTERRUPT.match(text):
        kind = Kind.INTERRUPTS
    elif _LSMOD.fullmatch(text) or _LIVE_MODULE.match(text) or (before is Kind.MODULES and is_module(text)):
        kind = Kind.MODULES
    elif is_sysfs(text):
        kind = Kind.SYSFS
    elif _QEMU.match(text):
        kind = Kind.QEMU
    elif (_FUNCTION.match(text) and ": " in text) or _TREE.match(text) or (before is Kind.LSPCI and _is_detail(text)):
        kind = Kind.LSPCI
    return kind


def _is_detail(text: str) -> bool:
    """Return whether lspci may have this line below a function's."""
    return text[:1] in ("", " ", "\t") or _HEX_DUMP.match(text) is not None


def _with_cmdline(lines: Sequence[Line], kinds: Sequence[Kind | None]) -> list[Kind | None]:
    """Identify the command line: a file's only line, or among other things a line that begins as one does."""
    whole = list(kinds)
    alone = sum(bool(line.text.strip()) for line in lines) == 1
    for place, (line, kind) in enumerate(zip(lines, kinds, strict=True)):
        if kind is None and line.text.strip() and _is_cmdline(line.text, alone=alone):
            whole[place] = Kind.CMDLINE
    return whole


def _is_cmdline(text: str, *, alone: bool) -> bool:
    if not alone:
        return text.strip().partition("=")[0] in _FIRST_OPTIONS
    names = (word.partition("=")[0] for word in CommandLine(text.strip()).words)
    return any(name in _KNOWN_OPTIONS for name in names)

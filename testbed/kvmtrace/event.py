"""What kvm's trace events say.

Source: Linux arch/x86/kvm/trace.h, include/trace/events/kvm.h and arch/x86/kvm/mmu/mmutrace.h, 3.10 to 6.18, and the
texts of trace-cmd's own kvm plug-in, which writes `EXIT_NPF` where the kernel has `npf`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from testbed.model.mmio_record import Direction, Space

_HEX = r"(?:0x)?([0-9a-f]{1,16})\b"
_VCPU = re.compile(r"vcpu ([0-9]{1,6})\b")
_ENTRY = re.compile(rf"vcpu ([0-9]{{1,6}})\b(?:,? rip {_HEX})?")
_EXIT = re.compile(rf"(?:vcpu ([0-9]{{1,6}}) )?reason (.{{1,80}}?) rip {_HEX}(?: info1? {_HEX}(?: info2)? {_HEX})?")
_FAULT = re.compile(rf"(?:vcpu [0-9]{{1,6}} rip {_HEX} )?address {_HEX} error_code {_HEX}")
_MMIO = re.compile(rf"mmio (unsatisfied-read|read|write) len ([0-9]{{1,3}}) gpa {_HEX} val {_HEX}")
_FAST_MMIO = re.compile(rf"fast mmio at gpa {_HEX}")
_PIO = re.compile(rf"pio_(read|write) at {_HEX} size ([0-9]{{1,3}}) count [0-9]{{1,9}}(?: val {_HEX})?")
_EMULATE = re.compile(
    r"[0-9a-f]{1,16}:([0-9a-f]{1,16}):\s?(.{0,100}?)(?:\s?\((?:real|vm16|prot[0-9]{2})\))?(\sfailed|\sFAIL)?\s{0,8}$"
)
_USER_EXIT = re.compile(r"reason (\S{1,40}) \(([0-9]{1,10})\)")

#: the exits by which a guest's access to a register leaves the guest: AMD's, then Intel's two
NPF = "npf"
EPT_VIOLATION = "EPT_VIOLATION"
EPT_MISCONFIG = "EPT_MISCONFIG"


class Exit(NamedTuple):
    """kvm_exit."""

    vcpu: int | None  #: older kernels leave it to kvm_entry
    reason: str
    rip: int
    info1: int | None  #: npf: the error code; EPT_VIOLATION: the exit qualification
    info2: int | None  #: npf: the guest physical address


class Entry(NamedTuple):
    """kvm_entry."""

    vcpu: int
    rip: int | None  #: where the guest goes on; older kernels leave it out


class PageFault(NamedTuple):
    """kvm_page_fault."""

    address: int


class Access(NamedTuple):
    """kvm_mmio, kvm_fast_mmio or kvm_pio: the access reached a device's handler."""

    space: Space
    direction: Direction
    address: int
    width: int | None
    value: int | None
    done: bool  #: False for a read that has to wait for user space


class Emulated(NamedTuple):
    """kvm_emulate_insn."""

    rip: int
    instruction: str  #: its bytes, or what trace-cmd's disassembler makes of them
    failed: bool


class UserExit(NamedTuple):
    """kvm_userspace_exit: KVM_RUN returns to QEMU, or to whichever process is behind the vCPU."""

    reason: str  #: KVM_EXIT_…, `error`, or `restart` for a signal
    number: int  #: of the reason (include/uapi/linux/kvm.h), or the errno


def parse_vcpu(text: str) -> int | None:
    """Return the vCPU that an event begins with; older kernels name it in kvm_entry alone."""
    match = _VCPU.match(text)
    return int(match[1]) if match else None


def parse_exit(text: str) -> Exit | None:
    """Read a kvm_exit of an x86 host; return None if it is laid out otherwise."""
    match = _EXIT.match(text)
    if match is None:
        return None
    vcpu, reason, rip, info1, info2 = match.groups()
    return Exit(
        vcpu=None if vcpu is None else int(vcpu),
        reason=NPF if reason == "EXIT_NPF" else reason,
        rip=int(rip, 16),
        info1=None if info1 is None else int(info1, 16),
        info2=None if info2 is None else int(info2, 16),
    )


def parse_entry(text: str) -> Entry | None:
    """Read a kvm_entry."""
    match = _ENTRY.match(text)
    if match is None:
        return None
    return Entry(vcpu=int(match[1]), rip=None if match[2] is None else int(match[2], 16))


def parse_page_fault(text: str) -> PageFault | None:
    """Read a kvm_page_fault."""
    match = _FAULT.match(text)
    return PageFault(address=int(match[2], 16)) if match else None


def parse_access(event: str, text: str) -> Access | None:
    """Read a kvm_mmio, kvm_fast_mmio or kvm_pio."""
    if event == "kvm_mmio":
        return _mmio(text)
    return _fast_mmio(text) if event == "kvm_fast_mmio" else _pio(text)


def _mmio(text: str) -> Access | None:
    match = _MMIO.match(text)
    if match is None:
        return None
    kind, width, gpa, value = match.groups()
    return Access(
        space=Space.MMIO,
        direction=Direction.WRITE if kind == "write" else Direction.READ,
        address=int(gpa, 16),
        width=int(width),
        value=int(value, 16),
        done=kind != "unsatisfied-read",
    )


def _fast_mmio(text: str) -> Access | None:
    """Read a write to an ioeventfd of any width: KVM neither decodes it nor knows its value."""
    match = _FAST_MMIO.match(text)
    if match is None:
        return None
    return Access(Space.MMIO, Direction.WRITE, int(match[1], 16), width=None, value=None, done=True)


def _pio(text: str) -> Access | None:
    match = _PIO.match(text)
    if match is None:
        return None
    direction, port, width, value = match.groups()
    return Access(
        space=Space.PIO,
        direction=Direction(direction),
        address=int(port, 16),
        width=int(width),
        value=None if value is None else int(value, 16),
        done=True,
    )


def parse_emulated(text: str) -> Emulated | None:
    """Read a kvm_emulate_insn: `csbase:rip:bytes (mode)`, with ` failed` or, from trace-cmd, ` FAIL` behind it."""
    match = _EMULATE.match(text)
    if match is None:
        return None
    return Emulated(rip=int(match[1], 16), instruction=match[2].strip(), failed=match[3] is not None)


def parse_user_exit(text: str) -> UserExit | None:
    """Read a kvm_userspace_exit."""
    match = _USER_EXIT.match(text)
    return UserExit(reason=match[1], number=int(match[2])) if match else None

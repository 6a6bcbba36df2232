"""The known causes of an exit loop, and which one a loop fits.

Sources: AMD's Revision Guide for Family 17h Models 00h-0Fh, erratum 1096; Linux arch/x86/kvm/svm/svm.c; commits
05d5a4863525 (5.1, tested SMAP the wrong way round) and "KVM: SVM: Fix detection of AMD Errata 1096" (5.3, 5.2.16);
1625c833db93 and dbae0a934f09 (both 5.19: `clearcpuid=` takes names, `nosmap` is gone).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.kvmtrace.event import NPF
from testbed.model.mmio_record import Mode

if TYPE_CHECKING:
    from testbed.kvmtrace.loop import Loop


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why an instruction may leave the guest for ever."""

    name: str
    known: bool  #: False if nothing on record fits
    explanation: str
    open: tuple[str, ...] = ()  #: what has to hold too, and is not in the trace
    remedies: tuple[str, ...] = ()


ERRATUM_1096 = Cause(
    name="AMD erratum 1096",
    known=True,
    explanation="With CR4.SMAP on, the CPU hands KVM no instruction bytes for a user-mode access to MMIO. A host KVM "
    "that does not know the erratum restarts the guest at the same instruction, for ever. Reads and writes alike; "
    "the kernel's own MMIO and port I/O work.",
    open=(
        "host CPU: AMD family 17h models 00h-0Fh (Zen 1), or Hygon Dhyana: lscpu",
        "host kernel: 4.16 to 5.2, without the stable fix (5.2.16, or a distribution's): uname -r",
        "guest: SMAP on: grep smap /proc/cpuinfo",
    ),
    remedies=(
        "host: Linux 5.3 or later",
        "guest command line: clearcpuid=smap from Linux 5.19 on, nosmap before",
        "QEMU: a CPU model without SMAP, for example -cpu host,smap=off",
        "QEMU: legacy virtio, which uses port I/O: -device virtio-net-pci,disable-legacy=off,disable-modern=on",
    ),
)
NOT_EMULATED = Cause(
    name="KVM cannot emulate the instruction",
    known=True,
    explanation="KVM tried (kvm_emulate_insn … failed) and let the guest retry.",
    open=("which instruction: disassemble the guest at this rip",),
    remedies=("a newer host kernel, or a driver that uses plain mov instructions for MMIO",),
)
FETCH = Cause(
    name="the guest runs code where there is no memory",
    known=True,
    explanation="The exit is an instruction fetch, so no device register is meant: the guest jumped there.",
)
MEMORY = Cause(
    name="a page of guest memory that the host does not get mapped",
    known=False,
    explanation="KVM has not marked the page as MMIO, so this is a fault on memory, not an access to a register.",
    open=("whether gpa belongs to guest memory: QEMU's `info mtree -f`", "what the host's kernel log says"),
)
NOT_USER = Cause(
    name="none that is known",
    known=False,
    explanation="AMD erratum 1096 is of user-mode accesses, unless the guest has SMAP on and SMEP off.",
    open=("guest: grep -w smep /proc/cpuinfo",),
)
INTEL = Cause(
    name="none that is known",
    known=False,
    explanation="AMD erratum 1096 cannot be it: this is an Intel host.",
    open=("what the host's kernel log says",),
)


def find_cause(loop: Loop) -> Cause:
    """Return the cause that fits a loop."""
    if loop.failures:
        return NOT_EMULATED
    if loop.fetch:
        return FETCH
    if loop.reason != NPF:
        return INTEL
    if not loop.mmio:
        return MEMORY
    return ERRATUM_1096 if loop.mode is Mode.USER else NOT_USER

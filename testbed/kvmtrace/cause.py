"""The known causes of an exit loop, and which one a loop fits.

Sources: AMD's Revision Guide for Family 17h Models 00h-0Fh, erratum 1096; Linux arch/x86/kvm/svm/svm.c; commits
05d5a4863525 (5.1, tested SMAP the wrong way round) and "KVM: SVM: Fix detection of AMD Errata 1096" (5.3, 5.2.16);
1625c833db93 and dbae0a934f09 (both 5.19: `clearcpuid=` takes names, `nosmap` is gone). Of the invalidation counter:
a955cad84cda (5.16: is_page_fault_stale() takes it as an int), ba6e3fe25543 (6.3: an unsigned long) and "KVM: x86/mmu:
Fix an sign-extension bug with mmu_seq that hangs vCPUs" (6.1.50). Of SEV-SNP: AMD64 APM volume 2, 15.36.10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.kvmtrace.event import NPF
from testbed.kvmtrace.fault import SNP_BITS
from testbed.model.mmio_record import Mode

if TYPE_CHECKING:
    from testbed.kvmtrace.loop import Loop

#: exits to one unmapping from which on the host is said to take memory away as fast as KVM maps it
_EXITS_AN_UNMAPPING = 20


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
INVALIDATION_COUNTER = Cause(
    name="KVM's invalidation counter, compared as a 32-bit int (mmu_invalidate_seq, before 6.0 mmu_notifier_seq)",
    known=True,
    explanation="The page is memory, not a register, and KVM never maps it. A KVM with this bug takes every fault for "
    "stale once the host has unmapped memory of this VM 2^31 times, and lets the guest retry for ever. Intel and "
    "AMD hosts alike; VMs that have run for weeks, with KSM, NUMA balancing or ballooning.",
    open=(
        "host kernel: 5.16 (or an older one with a backport of a955cad84cda) to 6.2, without the stable fix (6.1.50, "
        "or a distribution's): uname -r",
        "whether gpa belongs to guest memory: QEMU's `info mtree -f`",
        "whether the host keeps unmapping memory now: trace-cmd record -e kvm:kvm_unmap_hva_range sleep 10",
    ),
    remedies=(
        "host: Linux 6.3, or 6.1.50 and later of 6.1",
        "until then: migrate the VM, or stop and start it: a new VM's counter begins at 0",
        "fewer invalidations: kernel.numa_balancing=0, KSM off",
    ),
)
UNMAPPED_AGAIN = Cause(
    name="the host unmaps guest memory as fast as KVM maps it",
    known=True,
    explanation="The page is memory, not a register. While a range of the VM's memory is being unmapped, KVM maps "
    "nothing in it and lets the guest retry; the trace has these unmappings (kvm_unmap_hva_range) all through the "
    "loop.",
    open=("who unmaps: perf record -e kvm:kvm_unmap_hva_range -a -g",),
    remedies=("stop whatever does it: KSM, NUMA balancing, compaction, a balloon, madvise() in the VM's own process",),
)
NOT_EMULATED = Cause(
    name="KVM cannot emulate the instruction",
    known=True,
    explanation="KVM tried (kvm_emulate_insn … failed), gave the guest #UD or nothing, and the guest retries.",
    open=("which instruction: disassemble the guest at this rip",),
    remedies=("a newer host kernel, or a driver that uses plain mov instructions for MMIO",),
)
FETCH = Cause(
    name="the guest runs code where there is no memory",
    known=True,
    explanation="The exit is an instruction fetch from a page that is not memory; no device register is involved: "
    "the guest jumped there.",
)
SNP = Cause(
    name="SEV-SNP, the RMP or VMPL check refuses the access to a page that is mapped",
    known=True,
    explanation="The nested page tables have the page; the reverse map (RMP) does not let this access through. With "
    "VMPL the page's permissions for this privilege level in the guest forbid it: a guest at VMPL 1 or higher, below "
    "an SVSM or paravisor whose VMPL 0 has not granted the page (RMPADJUST). With SIZEM the page sizes of RMP and page "
    "tables differ. With neither, RMP and guest do not agree on whose page it is, and on private (ENC) or shared.",
    open=(
        "host: dmesg | grep -i -e rmp -e sev; KVM and QEMU that serve page state changes (Linux 6.11, QEMU 9.1)",
        "guest: whether it validated the page (PVALIDATE), and which firmware or SVSM it has",
    ),
)
PRIVATE = Cause(
    name="none known",
    known=False,
    explanation="The access is to private (ENC) memory of an SEV-SNP guest, and its page is not mapped. KVM asks user "
    "space for such a page by KVM_EXIT_MEMORY_FAULT (in the trace `error (14)`), and maps it from guest_memfd.",
    open=("host: Linux 6.11 and QEMU 9.1 or later, which serve page state changes", "what the host's kernel log says"),
)
NOT_USER = Cause(
    name="none known",
    known=False,
    explanation="AMD erratum 1096 affects user-mode accesses only, unless the guest has SMAP on and SMEP off.",
    open=("guest: grep -w smep /proc/cpuinfo",),
)
INTEL = Cause(
    name="none known",
    known=False,
    explanation="AMD erratum 1096 cannot be it: this is an Intel host.",
    open=("what the host's kernel log says",),
)


def find_cause(loop: Loop) -> Cause:
    """Return the cause that fits a loop."""
    if loop.failures:
        return NOT_EMULATED
    return _cause_on_mmio(loop) if loop.mmio else _cause_on_memory(loop)


def _cause_on_memory(loop: Loop) -> Cause:
    if not SNP_BITS.isdisjoint(loop.bits):
        return SNP
    if "ENC" in loop.bits:
        return PRIVATE
    return UNMAPPED_AGAIN if loop.unmapped * _EXITS_AN_UNMAPPING >= loop.exits else INVALIDATION_COUNTER


def _cause_on_mmio(loop: Loop) -> Cause:
    if loop.fetch:
        return FETCH
    if loop.reason != NPF:
        return INTEL
    return ERRATUM_1096 if loop.mode is Mode.USER else NOT_USER

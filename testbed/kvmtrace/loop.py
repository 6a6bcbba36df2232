"""A loop as it is reported: what is known of it, and what of that is not in the trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.kvmtrace.fault import mode_of
from testbed.kvmtrace.run import Ending
from testbed.model.mmio_record import Mode

if TYPE_CHECKING:
    from testbed.kvmtrace.run import Run
    from testbed.kvmtrace.vcpu_thread import VcpuThread
    from testbed.model.mmio_record import Direction

#: a loop that was last seen this long before the trace's end has ended
_LEFT_SECONDS = 1.0
#: below this, real-mode and firmware code is more likely than a process
_BOOT_END = 0x10_0000
_ENCRYPTED = (
    "not in the trace: rip is 0 in every exit, as when the guest's registers are encrypted (SEV-ES, "
    "SEV-SNP, TDX); so it shows neither mode nor progress"
)


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One instruction that leaves the guest again and again, and never completes."""

    thread: str  #: its name, usually `CPU 0/KVM`; empty if the trace has lost it
    tid: int | None  #: None where the trace has no threads
    process: int | None  #: QEMU; None without ftrace's record-tgid
    vcpu: int | None
    rip: int
    gpa: int | None  #: None for an EPT_MISCONFIG, which does not have it
    reason: str
    info: int | None  #: AMD's error code, or Intel's exit qualification
    bits: tuple[str, ...]
    direction: Direction | None
    fetch: bool
    mmio: bool  #: KVM had marked the page as MMIO
    mode: Mode | None
    mode_reason: str
    encrypted: bool  #: every rip of this vCPU is 0: KVM does not see the guest's registers
    unmapped: int  #: how often the host unmapped guest memory between its first exit and its last
    exits: int
    failures: int
    seconds: float | None  #: from the first exit to the last
    first_line: int
    last_line: int
    ending: Ending
    is_short: bool  #: too few exits to call it a loop

    @property
    def rate(self) -> float | None:
        """Return its exits per second; None without times."""
        return (self.exits - 1) / self.seconds if self.seconds is not None and self.seconds > 0 else None


def describe_loop(run: Run, thread: VcpuThread, *, end: float | None, is_short: bool = False) -> Loop:
    """Return what a run of a thread is, `end` being the time of the trace's last event."""
    last = run.last
    encrypted = not thread.shows_rip
    mode, reason = (None, _ENCRYPTED) if encrypted else _mode(last.rip, thread)
    return Loop(
        thread=thread.comm,
        tid=thread.tid,
        process=thread.tgid,
        vcpu=thread.vcpu,
        rip=last.rip,
        gpa=last.gpa,
        reason=last.reason,
        info=last.info1,
        bits=last.bits,
        direction=last.direction,
        fetch=last.fetch,
        mmio=last.mmio,
        mode=mode,
        mode_reason=reason,
        encrypted=encrypted,
        unmapped=last.unmapped - run.first.unmapped,
        exits=run.count,
        failures=run.failures,
        seconds=None if run.first.seconds is None or last.seconds is None else last.seconds - run.first.seconds,
        first_line=run.first.line,
        last_line=last.line,
        ending=run.ending or (Ending.LEFT if thread.halted_line > last.line else _ending(last.seconds, end)),
        is_short=is_short,
    )


def _ending(last: float | None, end: float | None) -> Ending:
    gone = last is not None and end is not None and end - last > _LEFT_SECONDS
    return Ending.LEFT if gone else Ending.REPEATING


def _mode(rip: int, thread: VcpuThread) -> tuple[Mode | None, str]:
    """Return the mode and how it is known."""
    if rip < _BOOT_END and not thread.runs_kernel:
        return None, "not in the trace: firmware and boot code run at such a rip too"
    mode = mode_of(rip, runs_kernel=True)
    if mode is Mode.KERNEL:
        return mode, "by its rip, in the upper half of the address space"
    if mode is None:
        return None, "not in the trace: its rip belongs to neither half of the address space"
    if thread.runs_kernel:
        return mode, "by its rip, in the lower half of the address space; the same vCPU runs a kernel in the upper half"
    return mode, "by its rip, in the lower half of the address space, unless the guest's kernel is a 32-bit one"

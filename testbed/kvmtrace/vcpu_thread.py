"""One vCPU thread as its trace shows it: which exit is open, and whether the instruction that caused it got past it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.kvmtrace.event import EPT_MISCONFIG, EPT_VIOLATION, NPF
from testbed.kvmtrace.privilege import is_kernel, mode_of
from testbed.kvmtrace.run import Fault, Runs
from testbed.model.mmio_record import MmioRecord, Space

if TYPE_CHECKING:
    from testbed.kvmtrace.event import Access, Emulated, Entry, Exit
    from testbed.kvmtrace.line import TraceLine

_FAULTS = frozenset((NPF, EPT_VIOLATION, EPT_MISCONFIG))


@dataclass(frozen=True, kw_only=True)
class Wait:
    """An access that KVM has handed to user space, where QEMU's device model is."""

    record: MmioRecord
    line: int
    seconds: float | None


class VcpuThread:
    """What is known of one thread; fed with its events in their order."""

    def __init__(self, line: TraceLine, at_least: int) -> None:
        self.tid = line.tid
        self.comm = line.comm
        self.tgid = line.tgid
        self.cpu = line.cpu
        self.vcpu: int | None = None
        self.runs_kernel = False  #: an exit came from the upper half of the address space: a 64-bit kernel runs here
        self.runs = Runs(at_least)
        self.exit_seconds: float | None = None
        self.waiting: Wait | None = None  #: what user space has not answered yet
        self._rip: int | None = None
        self.answered = False  #: the value of the next access comes from user space
        self._access: MmioRecord | None = None
        self._done = False
        self._fault: Fault | None = None
        self._adjacent = False  # the open fault directly follows the latest settled one
        self._emulated = self._failed = self._completed = False

    def see(self, line: TraceLine) -> None:
        """Take what every event says of its thread."""
        self.cpu = line.cpu
        self.comm = self.comm or line.comm
        self.tgid = self.tgid or line.tgid

    def left(self, line: TraceLine, exit_: Exit) -> None:
        """Take a kvm_exit."""
        faulted = self._fault is not None
        self.settle()
        self._access = self.waiting = None
        self._done = self.answered = False
        if exit_.vcpu is not None:
            self.vcpu = exit_.vcpu
        self.runs_kernel = self.runs_kernel or is_kernel(exit_.rip)
        self.exit_seconds = line.seconds
        self._rip = exit_.rip
        self._adjacent = faulted
        if exit_.reason in _FAULTS:
            self._fault = Fault(
                line=line.number,
                seconds=line.seconds,
                reason=exit_.reason,
                rip=exit_.rip,
                info1=exit_.info1,
                gpa=exit_.info2 if exit_.reason == NPF else None,
            )

    def entered(self, entry: Entry) -> None:
        """Take a kvm_entry: a guest that goes on elsewhere has got past the instruction."""
        self.vcpu = entry.vcpu
        self.waiting = None
        if self._fault is not None and entry.rip is not None and entry.rip != self._fault.rip:
            self._completed = True

    def faulted(self, address: int) -> None:
        """Take a kvm_page_fault, which has the address that an EPT_VIOLATION lacks."""
        if self._fault is not None and self._fault.gpa is None:
            self._fault.gpa = address

    def emulated(self, emulated: Emulated) -> None:
        """Take a kvm_emulate_insn; a second one says if it failed."""
        self._emulated, self._failed = not emulated.failed, emulated.failed

    def accessed(self, line: TraceLine, access: Access) -> MmioRecord:
        """Take an access that reached a device's handler, and return it as a record."""
        self._completed = self._completed or access.space is Space.MMIO
        self._done = access.done
        self._access = MmioRecord(
            seconds=line.seconds,
            vcpu=self.vcpu,
            rip=self._rip,
            gpa=access.address,
            width=access.width,
            value=access.value,
            direction=access.direction,
            mode=mode_of(self._rip, runs_kernel=self.runs_kernel),
            space=access.space,
        )
        return self._access

    def ask(self, line: TraceLine) -> MmioRecord | None:
        """Take an exit to user space for an access; return the access if it was recorded as done before."""
        if self._access is not None:
            self.waiting = Wait(record=self._access, line=line.number, seconds=line.seconds)
        done = self._access if self._done else None
        self.answered = done is None
        return done

    def settle(self) -> None:
        """Decide what became of the open exit, now that the next one is here."""
        fault = self._fault
        if fault is not None:
            if self._emulated or self._completed:
                self.runs.progressed(fault)
            else:
                self.runs.stuck(fault, failed=self._failed, adjacent=self._adjacent)
        self._clear()

    def forget(self) -> None:
        """Drop the open exit: events are missing after it, so nothing is known of it."""
        self._clear()

    def finish(self) -> None:
        """Take the end of the trace: the last exit counts only as one more of a run."""
        if self._fault is not None and self.runs.knows(self._fault):
            self.settle()

    def _clear(self) -> None:
        self._fault = None
        self._emulated = self._failed = self._completed = False

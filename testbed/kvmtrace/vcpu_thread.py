"""One vCPU thread as its trace shows it: which exit is open, and whether the instruction that caused it got past it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from testbed.kvmtrace.event import NPF
from testbed.kvmtrace.fault import FAULTS, Fault, is_kernel, mode_of
from testbed.kvmtrace.incident import Incident, Incidents, Kind, kind_of
from testbed.kvmtrace.run import Run, Runs
from testbed.model.mmio_record import MmioRecord, Space

if TYPE_CHECKING:
    from testbed.kvmtrace.event import Access, Emulated, Entry, Exit, UserExit
    from testbed.kvmtrace.line import TraceLine

_HALTS = frozenset(("hlt", "HLT", "EXIT_HLT"))
#: what tells one thread from another: its tid, or the vCPU that it runs where the trace has no threads
ThreadKey: TypeAlias = "int | tuple[int | None, int | None]"


@dataclass(frozen=True, kw_only=True)
class Wait:
    """An access that KVM has handed to user space, where QEMU's device model is."""

    record: MmioRecord
    line: int
    seconds: float | None


class VcpuThread:
    """What is known of one thread; fed with its events in their order."""

    def __init__(self, line: TraceLine, key: ThreadKey, at_least: int) -> None:
        self.key = key
        self.tid = line.tid
        self.comm = line.comm
        self.tgid = line.tgid
        self.cpu = line.cpu
        self.vcpu: int | None = None
        self.runs_kernel = False  #: an exit came from the upper half of the address space: a 64-bit kernel runs here
        self.shows_rip = False  #: an exit had another rip than 0, so its registers are not encrypted
        self.runs = Runs(at_least)
        self.incidents = Incidents()
        self.exits = 0
        self.halted_line = 0  #: of its latest exit by HLT: it had nothing to run then
        self.exit_seconds: float | None = None
        self.waiting: Wait | None = None  #: what user space has not answered yet
        self.answered = False  #: the value of the next access comes from user space
        self._exit: Exit | None = None
        self._access: MmioRecord | None = None
        self._done = False
        self._fault: Fault | None = None
        self._adjacent = False  # the open fault directly follows the latest settled one
        self._others = 0  # exits of another kind since the latest fault
        self._emulation: Emulated | None = None
        self._emulation_line = 0
        self._completed = self._nested = self._noted = False

    def see(self, line: TraceLine) -> None:
        """Take what every event says of its thread."""
        self.cpu = line.cpu
        self.comm = self.comm or line.comm
        self.tgid = self.tgid or line.tgid

    def left(self, line: TraceLine, exit_: Exit, *, unmapped: int) -> None:
        """Take a kvm_exit; `unmapped`: how often the host had unmapped guest memory by then."""
        faulted = self._fault is not None
        self.settle()
        self._access = self.waiting = None
        self._done = self.answered = False
        if exit_.vcpu is not None:
            self.vcpu = exit_.vcpu
        self.runs_kernel = self.runs_kernel or is_kernel(exit_.rip)
        self.shows_rip = self.shows_rip or exit_.rip != 0
        self.exits += 1
        if exit_.reason in _HALTS:
            self.halted_line = line.number
        self.exit_seconds = line.seconds
        self._exit = exit_
        self._adjacent = faulted
        self._others += 1
        if exit_.reason in FAULTS:
            self._others = 0
            self._fault = Fault(
                line=line.number,
                seconds=line.seconds,
                reason=exit_.reason,
                rip=exit_.rip,
                info1=exit_.info1,
                gpa=exit_.info2 if exit_.reason == NPF else None,
                unmapped=unmapped,
            )

    def entered(self, entry: Entry) -> None:
        """Take a kvm_entry: a guest that goes on elsewhere has got past the instruction."""
        self.vcpu = entry.vcpu
        self.waiting = None
        self.incidents.entered()
        if self._fault is not None and entry.rip is not None and entry.rip != self._fault.rip:
            self._completed = True

    def faulted(self, address: int) -> None:
        """Take a kvm_page_fault, which has the address that an EPT_VIOLATION lacks."""
        if self._fault is not None and self._fault.gpa is None:
            self._fault.gpa = address

    def nested(self) -> None:
        """Take a kvm_nested_vmexit: a nested guest was running."""
        self._nested = True

    def emulated(self, line: TraceLine, emulated: Emulated) -> None:
        """Take a kvm_emulate_insn; a second one says if it failed."""
        self._emulation, self._emulation_line = emulated, line.number

    def injected(self, line: TraceLine, exception: str) -> None:
        """Take a kvm_inj_exception: what the guest gets for an instruction that KVM could not emulate."""
        if self._failed:
            self._note(Kind.NOT_EMULATED, line.number, exception=exception)

    def accessed(self, line: TraceLine, access: Access) -> MmioRecord:
        """Take an access that reached a device's handler, and return it as a record."""
        rip = self._exit.rip if self._exit else None
        self._completed = self._completed or access.space is Space.MMIO
        self._done = access.done
        self._access = MmioRecord(
            seconds=line.seconds,
            vcpu=self.vcpu,
            rip=rip,
            gpa=access.address,
            width=access.width,
            value=access.value,
            direction=access.direction,
            mode=mode_of(rip, runs_kernel=self.runs_kernel),
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

    def returned(self, line: TraceLine, user_exit: UserExit) -> None:
        """Take an exit to user space for another reason; what user space is told of is no silent loop."""
        kind = kind_of(user_exit)
        if kind is not None:
            self._note(kind, line.number, user_exit=user_exit)
            self._clear()

    def _note(self, kind: Kind, line: int, *, user_exit: UserExit | None = None, exception: str = "") -> None:
        fault = self._fault
        self._noted = True
        self.incidents.add(
            Incident(
                kind=kind,
                user_exit=user_exit,
                exit=self._exit,
                gpa=fault.gpa if fault else None,
                instruction=self._emulation.instruction if self._emulation and self._failed else "",
                exception=exception,
                nested=self._nested,
                first_line=line,
                last_line=line,
            )
        )

    @property
    def _failed(self) -> bool:
        return self._emulation is not None and self._emulation.failed

    def settle(self) -> None:
        """Decide what became of the open exit, now that the next one is here."""
        self._note_emulation()
        fault = self._fault
        if fault is not None:
            if self._completed or (self._emulation is not None and not self._failed):
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
        else:
            self._note_emulation()

    def _note_emulation(self) -> None:
        """Note an emulation that failed, if what the guest got for it is not in the trace."""
        if self._failed and not self._noted:
            self._note(Kind.NOT_EMULATED, self._emulation_line)

    @property
    def suspicion(self) -> Run | None:
        """Return the run that the trace ends with, if it is too short to be called a loop and too long for chance."""
        run = self.runs.latest
        if run is None:
            return None
        suspicious = run.is_suspicious(alone=run.count == self.exits, others_since=self._others)
        return run if suspicious else None

    def _clear(self) -> None:
        self._fault = self._emulation = None
        self._completed = self._nested = self._noted = False

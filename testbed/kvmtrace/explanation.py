"""What a whole trace shows, read in one pass: linear time, bounded memory, whatever its length."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.kvmtrace.event import (
    NPF,
    parse_access,
    parse_emulated,
    parse_entry,
    parse_exit,
    parse_page_fault,
    parse_user_exit,
    parse_vcpu,
)
from testbed.kvmtrace.fault import FAULTS
from testbed.kvmtrace.incident import InternalError, Kind, parse_qemu_words
from testbed.kvmtrace.line import LINE_LIMIT, LostEvents, TraceLine, is_cut, is_frame, is_plain, joined_line, parse_line
from testbed.kvmtrace.loop import describe_loop
from testbed.kvmtrace.statistics import Registers
from testbed.kvmtrace.vcpu_thread import VcpuThread
from testbed.model.errors import InputError
from testbed.model.mmio_record import Space
from testbed.model.pasted import Unwrapper, clean_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from testbed.kvmtrace.incident import Incident
    from testbed.kvmtrace.loop import Loop
    from testbed.kvmtrace.statistics import Register
    from testbed.kvmtrace.vcpu_thread import ThreadKey, Wait
    from testbed.model.mmio_record import MmioRecord

#: lines that may be no event, beyond what a trace has between events, before a file is taken for something else
_PATIENCE = 2000
#: words of QEMU's that are kept
_QEMU_LIMIT = 20
_DATA_LIMIT = 16
#: vCPU threads known at once
_THREAD_LIMIT = 4096
_RECORD_HINT = "record with: trace-cmd record -e kvm sleep 10; trace-cmd report > trace.txt"
_EXPECTED = (
    "expected an event of `trace-cmd report` or ftrace, "
    "like: CPU 0/KVM-4711 [003] 1234.567890: kvm_exit: reason npf rip 0x4f1184 info 10000000f fe000014"
)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """An access that user space had not answered when the trace ended."""

    record: MmioRecord
    tid: int | None
    line: int
    seconds: float | None  #: until the trace's end


@dataclass(frozen=True, kw_only=True)
class VcpuIncident:
    """An incident, and whose it was."""

    incident: Incident
    thread: str
    tid: int | None
    vcpu: int | None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a trace shows."""

    lines: int
    events: int
    kvm_events: int
    exits: int
    mmio_exits: int  #: of these by npf, EPT_VIOLATION or EPT_MISCONFIG
    unread: int  #: kvm events laid out in a way that is not known
    lost: int  #: events that the trace says it lost, as far as it has counted them
    gaps: int  #: places where it lost some
    seconds: float | None  #: from its first event to its last
    host: str  #: AMD or Intel, by the exits; empty if there was none that tells
    witnesses: tuple[str, ...]  #: the kinds of events in it that would show progress
    loops: tuple[Loop, ...]
    loops_forgotten: int
    suspicions: tuple[Loop, ...]  #: what may be the beginning of a loop, too short to prove one
    incidents: tuple[VcpuIncident, ...]
    qemu_errors: tuple[InternalError, ...]  #: QEMU's own words, where they are in the same file
    registers: tuple[Register, ...]
    others: int  #: accesses to further addresses
    waiting: tuple[Waiting, ...]

    @property
    def is_healthy(self) -> bool:
        """Return whether nothing in it needs looking after."""
        return not (self.loops or self.loops_forgotten or self.suspicions or self.incidents or self.qemu_errors)

    def completed(self, loop: Loop) -> Register | None:
        """Return the accesses to a loop's address that did reach the device; None if there was none."""
        if loop.gpa is None:
            return None
        return next((row for row in self.registers if row.space is Space.MMIO and row.address == loop.gpa), None)


def explain(lines: Iterable[str], *, name: str, at_least: int) -> Explanation:
    """Read a trace; raise InputError if it is not one, or has no kvm event.

    `at_least` is the number of exits that make a loop.
    """
    reader = _Reader(name, at_least)
    number = 0
    for number, text in enumerate(lines, 1):
        reader.take(number, text)
    return reader.finish(number)


class _Reader:
    """The state of a pass."""

    def __init__(self, name: str, at_least: int) -> None:
        self._name = name
        self._at_least = at_least
        self._threads: OrderedDict[ThreadKey, VcpuThread] = OrderedDict()
        self._running: dict[int | None, int] = {}  # by host CPU, where the trace has no threads: the vCPU that it runs
        self._registers = Registers()
        self._timed: dict[ThreadKey, MmioRecord] = {}
        self._witnesses: set[str] = set()
        self._unwrapper = Unwrapper(lambda text: is_plain(parse_line(text, number=0)))
        self._cut: TraceLine | None = None
        self._strange: tuple[int, str] | None = None
        self._strangers = self._events = self._kvm_events = self._exits = self._mmio_exits = 0
        self._unread = self._lost = self._gaps = 0
        self._unread_line: tuple[int, str] | None = None
        self._loops: list[Loop] = []
        self._suspicions: list[Loop] = []
        self._incidents: list[VcpuIncident] = []
        self._qemu_errors: list[InternalError] = []
        self._unmapped = 0
        self._forgotten = 0
        self._first: float | None = None
        self._last: float | None = None
        self._host = ""
        self._handlers: dict[str, Callable[[VcpuThread, TraceLine], bool]] = {
            "kvm_exit": self._exit,
            "kvm_entry": self._entry,
            "kvm_page_fault": self._page_fault,
            "kvm_emulate_insn": self._emulate,
            "kvm_mmio": self._access,
            "kvm_fast_mmio": self._access,
            "kvm_pio": self._access,
            "kvm_userspace_exit": self._userspace_exit,
            "kvm_nested_vmexit": self._nested,
            "kvm_inj_exception": self._inject,
        }

    def take(self, number: int, text: str) -> None:
        """Take one line."""
        line = parse_line(text, number=number)
        if not is_plain(line) and not is_frame(text):
            text = self._unwrapper.unwrap(clean_line(text))
            line = parse_line(text, number=number)
        if line is None and self._cut is not None and not is_frame(text):
            line = joined_line(self._cut, text)
            self._cut = None
        self._take_cut()
        if line is None:
            self._stranger(number, text)
        elif isinstance(line, LostEvents):
            self._lose(line)
        elif is_cut(line):
            self._cut = line
        else:
            self._event(line)

    def _take_cut(self) -> None:
        """Take a line that looked as if an e-mail had wrapped it, when its rest did not follow."""
        line, self._cut = self._cut, None
        if line is not None:
            self._event(line)

    def _stranger(self, number: int, text: str) -> None:
        """Remember the first line that no trace has; give up if there are many before any event."""
        self._hear(number, text)
        if self._events or is_frame(text):
            return
        self._strange = self._strange or (number, text)
        self._strangers += 1
        if self._strangers >= _PATIENCE:
            raise self._not_a_trace()

    def _hear(self, number: int, text: str) -> None:
        """Take QEMU's words of the end of a vCPU, if these are."""
        words = parse_qemu_words(text, line=number)
        if isinstance(words, InternalError) and len(self._qemu_errors) < _QEMU_LIMIT:
            self._qemu_errors.append(words)
        elif isinstance(words, int) and self._qemu_errors and len(self._qemu_errors[-1].data) < _DATA_LIMIT:
            self._qemu_errors[-1].data.append(words)

    def _not_a_trace(self) -> InputError:
        if self._strange is None:
            return InputError(f"{self._name}: holds no event", hint=_RECORD_HINT)
        number, text = self._strange
        return InputError(
            f"{self._name}:{number}: {_excerpt(text)} is not a line of a trace; {_EXPECTED}", hint=_RECORD_HINT
        )

    def _lose(self, lost: LostEvents) -> None:
        """Forget the open exits of the threads on that CPU: what followed them may be among the lost."""
        self._gaps += 1
        self._lost += lost.events or 0
        for thread in self._threads.values():
            if thread.cpu == lost.cpu:
                thread.forget()

    def _event(self, line: TraceLine) -> None:
        self._events += 1
        if line.seconds is not None:
            # the buffers of several CPUs may stand one after the other
            self._first = line.seconds if self._first is None else min(self._first, line.seconds)
            self._last = line.seconds if self._last is None else max(self._last, line.seconds)
        if not line.event.startswith("kvm"):
            return
        self._kvm_events += 1
        if line.event == "kvm_unmap_hva_range":
            self._unmapped += 1
        handler = self._handlers.get(line.event)
        if handler is not None and not handler(self._thread(line), line):
            self._unread += 1
            self._unread_line = self._unread_line or (line.number, line.text)

    def _thread(self, line: TraceLine) -> VcpuThread:
        key = self._key(line)
        thread = self._threads.get(key)
        if thread is None:
            thread = self._threads[key] = VcpuThread(line, key, self._at_least)
            if len(self._threads) > _THREAD_LIMIT:
                self._retire(self._threads.popitem(last=False)[1])
        thread.see(line)
        return thread

    def _key(self, line: TraceLine) -> ThreadKey:
        """Return the thread of an event: where the trace has none, the vCPU that this host CPU runs."""
        if line.tid is not None:
            return line.tid
        vcpu = parse_vcpu(line.text)
        if vcpu is not None and (line.cpu in self._running or len(self._running) < _THREAD_LIMIT):
            self._running[line.cpu] = vcpu
        running = self._running.get(line.cpu)
        return (None, running) if running is not None else (line.cpu, None)

    def _retire(self, thread: VcpuThread) -> None:
        """Keep what a thread has shown, and let go of the thread."""
        thread.finish()
        self._timed.pop(thread.key, None)
        self._loops += [describe_loop(run, thread, end=self._last) for run in thread.runs.loops]
        self._forgotten += thread.runs.forgotten
        if thread.suspicion is not None:
            self._suspicions.append(describe_loop(thread.suspicion, thread, end=self._last, is_short=True))
        looping = {run.last.rip for run in thread.runs.loops}
        self._incidents += [
            VcpuIncident(incident=each, thread=thread.comm, tid=thread.tid, vcpu=thread.vcpu)
            for each in thread.incidents.all()
            # a loop says of itself that its instruction is not emulated
            if not (each.kind is Kind.NOT_EMULATED and each.exit and each.exit.rip in looping)
        ]

    def _exit(self, thread: VcpuThread, line: TraceLine) -> bool:
        exit_ = parse_exit(line.text)
        if exit_ is None:
            return False
        self._exits += 1
        if exit_.reason in FAULTS:
            self._mmio_exits += 1
            self._host = "AMD" if exit_.reason == NPF else "Intel"
        self._timed.pop(thread.key, None)
        thread.left(line, exit_, unmapped=self._unmapped)
        return True

    def _entry(self, thread: VcpuThread, line: TraceLine) -> bool:
        entry = parse_entry(line.text)
        if entry is None:
            return False
        if entry.rip is not None:
            self._witnesses.add("kvm_entry's rip")
        record = self._timed.pop(thread.key, None)
        if record is not None and thread.exit_seconds is not None and line.seconds is not None:
            row = self._registers.find(record)
            if row is not None:
                row.add_time(line.seconds - thread.exit_seconds)
        thread.entered(entry)
        return True

    def _page_fault(self, thread: VcpuThread, line: TraceLine) -> bool:
        fault = parse_page_fault(line.text)
        if fault is not None:
            thread.faulted(fault.address)
        return fault is not None

    def _emulate(self, thread: VcpuThread, line: TraceLine) -> bool:
        emulated = parse_emulated(line.text)
        if emulated is not None:
            self._witnesses.add(line.event)
            thread.emulated(line, emulated)
        return emulated is not None

    def _access(self, thread: VcpuThread, line: TraceLine) -> bool:
        access = parse_access(line.event, line.text)
        if access is None:
            return False
        if line.event != "kvm_pio":
            self._witnesses.add(line.event)
        record = thread.accessed(line, access)
        if access.done:
            self._registers.add(record, in_user_space=thread.answered)
            self._timed[thread.key] = record
        return True

    def _userspace_exit(self, thread: VcpuThread, line: TraceLine) -> bool:
        user_exit = parse_user_exit(line.text)
        if user_exit is None:
            return False
        if user_exit.reason in ("KVM_EXIT_MMIO", "KVM_EXIT_IO"):
            record = thread.ask(line)
            row = self._registers.find(record) if record is not None else None
            if row is not None:
                row.in_user_space += 1
        else:
            thread.returned(line, user_exit)
        return True

    def _nested(self, thread: VcpuThread, line: TraceLine) -> bool:
        thread.nested()
        return True

    def _inject(self, thread: VcpuThread, line: TraceLine) -> bool:
        thread.injected(line, line.text.split(maxsplit=1)[0] if line.text.strip() else "an exception")
        return True

    def finish(self, lines: int) -> Explanation:
        """Take the end of the trace."""
        self._take_cut()
        self._check()
        waiting = [(thread, thread.waiting) for thread in self._threads.values() if thread.waiting is not None]
        for thread in self._threads.values():
            self._retire(thread)
        return Explanation(
            lines=lines,
            events=self._events,
            kvm_events=self._kvm_events,
            exits=self._exits,
            mmio_exits=self._mmio_exits,
            unread=self._unread,
            lost=self._lost,
            gaps=self._gaps,
            seconds=None if self._first is None or self._last is None else self._last - self._first,
            host=self._host,
            witnesses=tuple(sorted(self._witnesses)),
            loops=tuple(sorted(self._loops, key=lambda loop: (-loop.exits, loop.first_line))),
            loops_forgotten=self._forgotten,
            suspicions=tuple(sorted(self._suspicions, key=lambda loop: (-loop.exits, loop.first_line))),
            incidents=tuple(sorted(self._incidents, key=lambda each: each.incident.first_line)),
            qemu_errors=tuple(self._qemu_errors),
            registers=tuple(self._registers.rows()),
            others=self._registers.others,
            waiting=tuple(self._waiting(thread, wait) for thread, wait in waiting),
        )

    def _check(self) -> None:
        """Raise InputError if the trace cannot say anything of exits."""
        if not self._events:
            raise self._not_a_trace()
        if not self._kvm_events:
            raise InputError(f"{self._name}: holds {self._events} events, none from kvm", hint=_RECORD_HINT)
        if not self._exits and self._unread_line is not None:
            number, text = self._unread_line
            wanted = "expected an x86 host's, like: kvm_exit: reason EPT_MISCONFIG rip 0x4f1184 info 0 0"
            raise InputError(f"{self._name}:{number}: cannot read {_excerpt(text)}; {wanted}")

    def _waiting(self, thread: VcpuThread, wait: Wait) -> Waiting:
        seconds = None if self._last is None or wait.seconds is None else self._last - wait.seconds
        return Waiting(record=wait.record, tid=thread.tid, line=wait.line, seconds=seconds)


def _excerpt(text: str) -> str:
    """Return the beginning of a line, quoted."""
    text = text[:LINE_LIMIT].strip()
    return repr(text if len(text) <= 60 else text[:60] + "…")

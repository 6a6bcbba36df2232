"""A whole trace in one pass: linear time, bounded memory, whatever its length."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from testbed.kvmtrace.event import (
    EPT_MISCONFIG,
    EPT_VIOLATION,
    NPF,
    parse_access,
    parse_emulated,
    parse_entry,
    parse_exit,
    parse_page_fault,
)
from testbed.kvmtrace.explanation import Explanation, Waiting
from testbed.kvmtrace.line import LINE_LIMIT, LostEvents, TraceLine, is_frame, parse_line
from testbed.kvmtrace.loop import describe_loop
from testbed.kvmtrace.statistics import Registers
from testbed.kvmtrace.vcpu_thread import VcpuThread
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from testbed.kvmtrace.loop import Loop
    from testbed.kvmtrace.vcpu_thread import Wait
    from testbed.model.mmio_record import MmioRecord

#: lines that may be no event, beyond what a trace has between events, before a file is taken for something else
_PATIENCE = 100
#: vCPU threads known at once
_THREAD_LIMIT = 4096
_RECORD_HINT = "record with: trace-cmd record -e kvm sleep 10; trace-cmd report > trace.txt"
_EXPECTED = (
    "expected an event of `trace-cmd report` or ftrace, "
    "like: CPU 0/KVM-4711 [003] 1234.567890: kvm_exit: reason npf rip 0x4f1184 info 10000000f fe000014"
)


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
        self._threads: OrderedDict[int, VcpuThread] = OrderedDict()
        self._registers = Registers()
        self._timed: dict[int, MmioRecord] = {}
        self._witnesses: set[str] = set()
        self._strange: tuple[int, str] | None = None
        self._strangers = self._events = self._kvm_events = self._exits = self._mmio_exits = 0
        self._unread = self._lost = self._gaps = 0
        self._unread_line: tuple[int, str] | None = None
        self._loops: list[Loop] = []
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
        }

    def take(self, number: int, text: str) -> None:
        """Take one line."""
        line = parse_line(text, number=number)
        if line is None:
            self._stranger(number, text)
        elif isinstance(line, LostEvents):
            self._lose(line)
        else:
            self._event(line)

    def _stranger(self, number: int, text: str) -> None:
        """Remember the first line that no trace has; give up if there are many before any event."""
        if self._events or is_frame(text):
            return
        self._strange = self._strange or (number, text)
        self._strangers += 1
        if self._strangers >= _PATIENCE:
            raise self._not_a_trace()

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
        handler = self._handlers.get(line.event)
        if handler is not None and not handler(self._thread(line), line):
            self._unread += 1
            self._unread_line = self._unread_line or (line.number, line.text)

    def _thread(self, line: TraceLine) -> VcpuThread:
        thread = self._threads.get(line.tid)
        if thread is None:
            thread = self._threads[line.tid] = VcpuThread(line, self._at_least)
            if len(self._threads) > _THREAD_LIMIT:
                self._retire(self._threads.popitem(last=False)[1])
        thread.see(line)
        return thread

    def _retire(self, thread: VcpuThread) -> None:
        """Keep what a thread has shown, and let go of the thread."""
        thread.finish()
        self._timed.pop(thread.tid, None)
        self._loops += [describe_loop(run, thread, end=self._last) for run in thread.runs.loops]
        self._forgotten += thread.runs.forgotten

    def _exit(self, thread: VcpuThread, line: TraceLine) -> bool:
        exit_ = parse_exit(line.text)
        if exit_ is None:
            return False
        self._exits += 1
        if exit_.reason in (NPF, EPT_VIOLATION, EPT_MISCONFIG):
            self._mmio_exits += 1
            self._host = "AMD" if exit_.reason == NPF else "Intel"
        self._timed.pop(thread.tid, None)
        thread.left(line, exit_)
        return True

    def _entry(self, thread: VcpuThread, line: TraceLine) -> bool:
        entry = parse_entry(line.text)
        if entry is None:
            return False
        if entry.rip is not None:
            self._witnesses.add("kvm_entry's rip")
        record = self._timed.pop(thread.tid, None)
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
            thread.emulated(emulated)
        return emulated is not None

    def _access(self, thread: VcpuThread, line: TraceLine) -> bool:
        access = parse_access(line.event, line.text)
        if access is None:
            return False
        if line.event != "kvm_pio":
            self._witnesses.add(line.event)
        record = thread.accessed(line, access)
        if access.done:
            self._registers.add(record, asked=thread.answered)
            self._timed[thread.tid] = record
        return True

    def _userspace_exit(self, thread: VcpuThread, line: TraceLine) -> bool:
        if line.text.startswith(("reason KVM_EXIT_MMIO", "reason KVM_EXIT_IO ")):
            record = thread.ask(line)
            row = self._registers.find(record) if record is not None else None
            if row is not None:
                row.asked += 1
        return True

    def finish(self, lines: int) -> Explanation:
        """Take the end of the trace."""
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
            registers=tuple(self._registers.rows()),
            others=self._registers.others,
            waiting=tuple(self._waiting(thread, wait) for thread, wait in waiting),
        )

    def _check(self) -> None:
        """Raise InputError if the trace cannot say anything of exits."""
        if not self._events:
            raise self._not_a_trace()
        if not self._kvm_events:
            raise InputError(f"{self._name}: holds {self._events} events, none of kvm", hint=_RECORD_HINT)
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

"""Incidents: what happened to a vCPU besides a loop: how it left KVM for good, with an error, or with #UD.

Sources: Linux include/uapi/linux/kvm.h (KVM_EXIT_*, KVM_INTERNAL_ERROR_*), include/trace/events/kvm.h
(kvm_userspace_exit), arch/x86/kvm/x86.c (handle_emulation_failure: an exit to user space from the kernel of a guest
that is not nested, #UD for anybody else) and vmx/vmx.c (__vmx_handle_exit: suberrors 3 and 4); QEMU accel/kvm/kvm-all.c
(kvm_cpu_exec, kvm_handle_internal_error).
"""

from __future__ import annotations

import enum
import errno
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.kvmtrace.event import Exit, UserExit

#: kinds of incidents that are kept of a vCPU
_LIMIT = 64
#: bit 31 of Intel's vectoring information (exit's info2): an event was being delivered to the guest
_VECTORING = 1 << 31
_EVENT_TYPES = {0: "external interrupt", 2: "NMI", 3: "exception", 4: "software interrupt", 6: "software exception"}

_SUBERROR = re.compile(r"\s{0,64}KVM internal error\. Suberror: ([0-9]{1,9})")
_DATA = re.compile(r"\s{0,64}extra data\[[0-9]{1,3}\]: (?:0x)?([0-9a-f]{1,16})\b")
_RUN_FAILED = re.compile(r"\s{0,64}(?:qemu\S{0,40}: )?(error: kvm run failed .{1,80}|KVM: entry failed, .{1,80})")
SUBERRORS = {
    1: "KVM could not emulate an instruction",
    2: "simultaneous exceptions",
    3: "an event could not be delivered to the guest",
    4: "an exit that KVM did not expect",
}


class Kind(enum.StrEnum):
    """What happened."""

    INTERNAL_ERROR = "internal error"  #: KVM_EXIT_INTERNAL_ERROR
    SHUTDOWN = "shutdown"  #: a triple fault
    ENTRY_FAILED = "entry failed"
    UNKNOWN_EXIT = "unknown exit"
    NOTIFY = "notify"  #: the guest kept the CPU from every event
    ERROR = "error"  #: KVM_RUN returned an errno
    NOT_EMULATED = "not emulated"  #: and the guest got an exception, or the trace does not say what


_ENDS = {
    0: Kind.UNKNOWN_EXIT,
    8: Kind.SHUTDOWN,
    9: Kind.ENTRY_FAILED,
    17: Kind.INTERNAL_ERROR,
    37: Kind.NOTIFY,
}


@dataclass(kw_only=True)
class Incident:
    """Something that happened to a vCPU, once or again and again at one place."""

    kind: Kind
    user_exit: UserExit | None  #: None where KVM kept it to itself
    exit: Exit | None  #: the exit before it; None if the trace does not reach back to it
    gpa: int | None
    instruction: str  #: which KVM could not emulate; empty if it did not try
    exception: str  #: which the guest got, `#UD`; empty if none is in the trace
    nested: bool  #: a nested guest was running
    first_line: int
    last_line: int
    count: int = 1
    entered: bool = False  #: the vCPU ran again afterwards

    @property
    def errno_name(self) -> str:
        """Return the errno as C has it; empty where there is none."""
        number = self.user_exit.number if self.user_exit and self.kind is Kind.ERROR else None
        return "" if number is None else errno.errorcode.get(number, f"errno {number}")

    @property
    def meaning(self) -> str:
        """Return what it means for the guest."""
        return _PLAIN.get(self.kind) or _DESCRIPTIONS[self.kind](self)


@dataclass(frozen=True, kw_only=True)
class InternalError:
    """What QEMU says of the end of a vCPU, where its words stand in the same file."""

    line: int
    words: str  #: empty for an internal error, which has a number
    suberror: int | None = None
    data: list[int] = field(default_factory=list)


class Incidents:
    """The incidents of one vCPU thread, each kind and place once, in bounded memory."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Incident] = {}
        self._latest: Incident | None = None

    def all(self) -> list[Incident]:
        """Return them in the order of their first lines."""
        return sorted(self._known.values(), key=lambda incident: incident.first_line)

    def add(self, incident: Incident) -> None:
        """Count an incident; the first of its kind and place is kept."""
        rip = incident.exit.rip if incident.exit else None
        number = incident.user_exit.number if incident.user_exit else None
        key = (incident.kind, number, rip, incident.gpa, incident.exception)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _LIMIT:
                return
            known = self._known[key] = incident
        else:
            known.count += 1
            known.last_line = incident.last_line
            known.entered = False
        self._latest = known

    def entered(self) -> None:
        """Take an entry: the vCPU goes on."""
        if self._latest is not None:
            self._latest.entered = True


def kind_of(user_exit: UserExit) -> Kind | None:
    """Return what an exit to user space is; None for what QEMU serves every day."""
    if user_exit.reason == "error":
        return Kind.ERROR
    return None if user_exit.reason == "restart" else _ENDS.get(user_exit.number)


def parse_qemu_words(text: str, *, line: int) -> InternalError | int | None:
    """Read a line of QEMU's own: the head of an error, or one word of its data."""
    if match := _SUBERROR.match(text):
        return InternalError(line=line, words="", suberror=int(match[1]))
    if match := _DATA.match(text):
        return int(match[1], 16)
    match = _RUN_FAILED.match(text)
    return InternalError(line=line, words=match[1].strip()) if match else None


def delivered_event(exit_: Exit | None) -> str:
    """Return which event an Intel CPU was delivering to the guest when it left; empty if none."""
    if exit_ is None or exit_.info2 is None or exit_.reason == "npf" or not exit_.info2 & _VECTORING:
        return ""
    kind = _EVENT_TYPES.get(exit_.info2 >> 8 & 7, "event")
    return f"{kind} {exit_.info2 & 0xFF:#x}"


def _internal_error(incident: Incident) -> str:
    if incident.instruction:
        why = "KVM could not emulate the instruction"
    elif event := delivered_event(incident.exit):
        why = f"it exited while {event} was being delivered, and KVM cannot deliver that again"
    else:
        why = "QEMU's log says why: `KVM internal error. Suberror: …`, with its data and the registers"
    end = "" if incident.entered else "; this vCPU is finished: QEMU stops the VM (query-status: internal-error)"
    return f"{why}{end}"


def _error(incident: Incident) -> str:
    name = incident.errno_name
    no_loop = "user space is told each time, so this is not a silent loop"
    if name == "EFAULT":
        return (
            "the process behind the vCPU has no memory there that KVM could map (a range without mapping, PROT_NONE, "
            "past the end of its file; a guest with private memory asks this way for a page to be converted); "
            f"{no_loop}"
        )
    if name == "EHWPOISON":
        return f"the host's memory behind that page is poisoned (a machine check); {no_loop}"
    number = incident.user_exit.number if incident.user_exit else 0
    return f"{os.strerror(number)}; {no_loop}"


def _not_emulated(incident: Incident) -> str:
    who = "a nested guest was running" if incident.nested else "this was not the guest's kernel, or it was nested"
    if incident.exception:
        return (
            f"KVM could not emulate the instruction, and injected {incident.exception} into the guest ({who}): "
            "whatever ran there sees an invalid instruction, Linux as SIGILL or an Oops, Windows as a stop code"
        )
    return "KVM could not emulate the instruction; what became of the guest is not in the trace"


_PLAIN = {
    Kind.SHUTDOWN: "the guest had a triple fault: it reset itself that way, or it died of an exception that it could "
    "not handle; QEMU resets it, or ends with -no-reboot",
    Kind.ENTRY_FAILED: "the CPU refused to enter the guest: its state is not valid for the hardware; QEMU stops the VM",
    Kind.UNKNOWN_EXIT: "the hardware left the guest for a reason that this KVM does not know; QEMU stops the VM",
    Kind.NOTIFY: "the guest blocked all event delivery for longer than QEMU's notify-window allows",
}
_DESCRIPTIONS: dict[Kind, Callable[[Incident], str]] = {
    Kind.INTERNAL_ERROR: _internal_error,
    Kind.ERROR: _error,
    Kind.NOT_EMULATED: _not_emulated,
}

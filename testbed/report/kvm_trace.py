"""An explained kvm trace, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from testbed.kvmtrace.cause import find_cause
from testbed.kvmtrace.event import NPF
from testbed.kvmtrace.incident import SUBERRORS, Kind
from testbed.model.mmio_record import Space

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from testbed.kvmtrace.cause import Cause
    from testbed.kvmtrace.explanation import Explanation, VcpuIncident, Waiting
    from testbed.kvmtrace.incident import Incident, InternalError
    from testbed.kvmtrace.loop import Loop
    from testbed.kvmtrace.statistics import Register

_SCHEMA = 1
_MISSING = "not in the trace"
_HEADINGS = ("register", "reads", "writes", "width", "mode", "QEMU", "last value", "µs mean", "max", "rip")
_TEXTS = ("register", "width", "mode", "rip")


def print_explanation(explanation: Explanation, name: str, console: Console, *, rows: int, at_least: int) -> None:
    """Print what a trace shows: its loops with cause and remedies, then the `rows` busiest registers."""
    console.print(_summary(explanation, name), highlight=False, soft_wrap=True)
    for loop in explanation.loops:
        _print_loop(loop, f"[red bold]loop[/red bold]: {loop.exits:,} exits", explanation, name, console)
    for loop in explanation.suspicions:
        heading = f"[yellow bold]suspicion[/yellow bold]: {loop.exits:,} exits in a row"
        _print_loop(loop, heading, explanation, name, console)
    for each in explanation.incidents:
        _print_incident(each, name, console)
    for error in explanation.qemu_errors:
        console.print(f"[red]QEMU[/red]: {escape(_qemu_error(error, name))}", highlight=False, soft_wrap=True)
    if explanation.loops_forgotten:
        console.print(f"and {explanation.loops_forgotten:,} more loops", highlight=False)
    for wait in explanation.waiting:
        console.print(f"[yellow]waiting[/yellow]: {escape(_wait(wait, name))}", highlight=False, soft_wrap=True)
    if explanation.registers:
        console.print()
        _print_registers(explanation, console, rows)
    console.print()
    console.print(_conclusion(explanation, at_least), highlight=False, soft_wrap=True)
    for note in find_notes(explanation):
        console.print(f"[yellow]note[/yellow]: {escape(note)}", highlight=False, soft_wrap=True)


def find_notes(explanation: Explanation) -> list[str]:
    """Return what limits the conclusion."""
    notes = []
    if (explanation.loops or explanation.suspicions) and not explanation.witnesses:
        notes.append(
            "no event that would show progress is in the trace (kvm_mmio, kvm_emulate_insn, kvm_fast_mmio): if only "
            "some events were recorded, a driver that polls looks the same; record all with: trace-cmd record -e kvm"
        )
    if explanation.gaps:
        count = f"{explanation.lost:,} events" if explanation.lost else "events"
        notes.append(f"{count} were lost in {explanation.gaps:,} places: counts and rates are lower bounds")
    if explanation.unread:
        notes.append(f"{explanation.unread:,} kvm events have an unknown format and were not read")
    if explanation.others:
        notes.append(f"{explanation.others:,} accesses to other addresses have no row")
    return notes


def to_json_value(explanation: Explanation, name: str) -> dict[str, Any]:
    """Return what a trace shows as JSON values: addresses as hexadecimal strings, times in seconds."""
    return {
        "schema": _SCHEMA,
        "trace": name,
        "lines": explanation.lines,
        "events": explanation.events,
        "kvm_events": explanation.kvm_events,
        "exits": explanation.exits,
        "mmio_exits": explanation.mmio_exits,
        "lost_events": explanation.lost,
        "gaps": explanation.gaps,
        "unread_events": explanation.unread,
        "seconds": _rounded(explanation.seconds),
        "host": explanation.host or None,
        "witnesses": list(explanation.witnesses),
        "loops": [_loop_value(loop, explanation.completed(loop)) for loop in explanation.loops],
        "loops_forgotten": explanation.loops_forgotten,
        "suspicions": [_loop_value(loop, explanation.completed(loop)) for loop in explanation.suspicions],
        "incidents": [_incident_value(each) for each in explanation.incidents],
        "qemu_errors": [_qemu_error_value(each) for each in explanation.qemu_errors],
        "registers": [_register_value(row) for row in explanation.registers],
        "other_accesses": explanation.others,
        "waiting": [_waiting_value(wait) for wait in explanation.waiting],
        "notes": find_notes(explanation),
    }


def _summary(explanation: Explanation, name: str) -> str:
    parts = [f"{explanation.lines:,} lines", f"{explanation.exits:,} exits"]
    if explanation.seconds is not None:
        parts.append(f"{explanation.seconds:.3f} s")
    if explanation.host:
        parts.append(f"{explanation.host} host")
    return f"[bold]{escape(name)}[/bold]: {', '.join(parts)}"


def _conclusion(explanation: Explanation, at_least: int) -> str:
    count = len(explanation.loops) + explanation.loops_forgotten
    if count:
        return f"[red]{count:,} exit loop{'s' if count > 1 else ''} without progress[/red]"
    if explanation.suspicions:
        exits = explanation.suspicions[0].exits
        return (
            f"[yellow]{exits:,} exits in a row without progress: too few to prove a loop[/yellow] of {at_least:,} or "
            "more; record longer: trace-cmd record -e kvm sleep 10"
        )
    if not explanation.exits:
        return "[yellow]no kvm_exit in the trace: it cannot show an exit loop[/yellow]"
    return f"[green]no exit loop[/green] of {at_least:,} or more exits"


def _print_loop(loop: Loop, heading: str, explanation: Explanation, name: str, console: Console) -> None:
    where = f"rip {loop.rip:#x}" + (f", gpa {loop.gpa:#x}" if loop.gpa is not None else "")
    console.print()
    console.print(f"{heading} without progress at {where}", highlight=False, soft_wrap=True)
    _print_rows(_loop_rows(loop, explanation, name), console)


def _print_rows(rows: Iterable[tuple[str, str]], console: Console) -> None:
    table = Table(show_header=False, show_edge=False, box=None, padding=(0, 2, 0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in rows:
        table.add_row(title, escape(text))
    console.print(table, highlight=False)


def _print_incident(each: VcpuIncident, name: str, console: Console) -> None:
    incident = each.incident
    times = f"{incident.count:,} times " if incident.count > 1 else ""
    console.print()
    console.print(f"[red bold]{escape(_happened(incident))}[/red bold] {times}", highlight=False, soft_wrap=True)
    _print_rows(_incident_rows(each, name), console)


def _happened(incident: Incident) -> str:
    """Return what happened in KVM's words, with the numbers."""
    if incident.user_exit is None:
        return f"emulation failed: {incident.exception or 'what followed is not in the trace'}"
    if incident.kind is Kind.ERROR:
        return f"KVM_RUN failed: {incident.errno_name} (error {incident.user_exit.number})"
    return f"{incident.user_exit.reason} ({incident.user_exit.number})"


def _incident_rows(each: VcpuIncident, name: str) -> list[tuple[str, str]]:
    incident = each.incident
    last = f" to {name}:{incident.last_line}" if incident.count > 1 else ""
    after = "it ran again afterwards" if incident.entered else "it does not run again in the trace"
    rows = [
        ("vCPU", f"{_thread(each.vcpu, each.thread, each.tid)}; {after}"),
        ("exit before", _exit_before(incident)),
        ("instruction", f"{incident.instruction} (kvm_emulate_insn … failed)" if incident.instruction else ""),
        ("nested", "a nested guest was running (kvm_nested_vmexit)" if incident.nested else ""),
        ("evidence", f"{name}:{incident.first_line}{last}"),
        ("meaning", incident.meaning),
    ]
    return [row for row in rows if row[1]]


def _exit_before(incident: Incident) -> str:
    exit_ = incident.exit
    if exit_ is None:
        return _MISSING
    gpa = f", gpa {incident.gpa:#x}" if incident.gpa is not None else ""
    data = f", info1 {exit_.info1:#x}" if exit_.info1 is not None else ""
    data += f", info2 {exit_.info2:#x}" if exit_.info2 is not None else ""
    return f"{exit_.reason} at rip {exit_.rip:#x}{gpa}{data}"


def _qemu_error(error: InternalError, name: str) -> str:
    where = f"({name}:{error.line})"
    if error.suberror is None:
        return f"{error.words} {where}"
    meaning = SUBERRORS.get(error.suberror, "unknown")
    data = "; data " + " ".join(f"{each:#x}" for each in error.data) if error.data else ""
    return f"KVM internal error, suberror {error.suberror}: {meaning}{data} {where}"


def _loop_rows(loop: Loop, explanation: Explanation, name: str) -> list[tuple[str, str]]:
    """Return the rows of a loop; one without a title goes on with the row above."""
    cause = find_cause(loop)
    rows = [
        ("vCPU", _vcpu(loop)),
        ("gpa", _gpa(loop, explanation.completed(loop))),
        ("access", _access(loop)),
        ("mode", f"{loop.mode}, {loop.mode_reason}" if loop.mode else loop.mode_reason),
        ("guest process", f"{_MISSING}; if it is stuck now, it is what keeps the vCPU busy in the guest's `top`"),
        ("rate", _rate(loop)),
        ("evidence", f"{name}:{loop.first_line} to {name}:{loop.last_line}"),
        ("cause", _cause(loop, cause)),
        ("", cause.explanation),
    ]
    for title, texts in (("to be checked", cause.open), ("remedies", cause.remedies)):
        rows += [(title if index == 0 else "", text) for index, text in enumerate(texts)]
    return rows


def _cause(loop: Loop, cause: Cause) -> str:
    if not cause.known:
        return cause.name
    return f"consistent with {cause.name}; too few exits to prove" if loop.is_short else f"{cause.name} fits"


def _vcpu(loop: Loop) -> str:
    process = f"QEMU process {loop.process}" if loop.process is not None else f"QEMU process {_MISSING}"
    return f"{_thread(loop.vcpu, loop.thread, loop.tid)}; {process}"


def _thread(vcpu: int | None, thread: str, tid: int | None) -> str:
    number = "number not in the trace" if vcpu is None else str(vcpu)
    return f"{number}; thread {thread or '<...>'}, tid {_MISSING if tid is None else tid}"


def _gpa(loop: Loop, completed: Register | None) -> str:
    page = "on a page that KVM has marked as MMIO" if loop.mmio else "on a page that KVM has not marked as MMIO"
    if loop.gpa is None:
        return f"{_MISSING}; {page}"
    if completed is None:
        return f"{loop.gpa:#x}, {page}; no access to it completed"
    modes = " and ".join(sorted(completed.modes))
    by = f" by {modes} code" if modes else ""
    return f"{loop.gpa:#x}, {page}; {completed.count:,} other accesses to it{by} completed"


def _access(loop: Loop) -> str:
    kind = "instruction fetch" if loop.fetch else str(loop.direction or f"read or write: {_MISSING}")
    if loop.info is None or not loop.bits:
        return f"{kind} ({loop.reason})"
    what = "error code" if loop.reason == NPF else "exit qualification"
    hint = "; U belongs to the nested walk and says nothing about user or kernel" if "U" in loop.bits else ""
    return f"{kind} ({loop.reason}, {what} {loop.info:#x}: {' '.join(loop.bits)}{hint})"


def _rate(loop: Loop) -> str:
    span = "times not in the trace" if loop.seconds is None else f"over {loop.seconds:.3f} s"
    rate = f"{loop.rate:,.0f} exits/s " if loop.rate is not None else ""
    failed = f", {loop.failures:,} failed emulations" if loop.failures else ""
    return f"{rate}{span}{failed}; {loop.ending}"


def _wait(wait: Waiting, name: str) -> str:
    record = wait.record
    since = "" if wait.seconds is None else f" for {wait.seconds:.3f} s"
    vcpu = "?" if record.vcpu is None else record.vcpu
    return (
        f"vCPU {vcpu} (tid {wait.tid}) waits{since} for user space to answer `{record}`, until the trace ends "
        f"({name}:{wait.line})"
    )


def _print_registers(explanation: Explanation, console: Console, rows: int) -> None:
    console.print("[bold]accesses that reached a device[/bold]")
    table = Table(box=None, pad_edge=False)
    for heading in _HEADINGS:
        right = heading not in _TEXTS
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=heading == "register")
    for row in explanation.registers[:rows]:
        table.add_row(*_register_cells(row))
    console.print(table, highlight=False)
    more = len(explanation.registers) - rows
    if more > 0:
        console.print(f"[dim]and {more:,} more registers: --rows[/dim]", highlight=False)


def _register_cells(row: Register) -> tuple[str, ...]:
    rips = [f"{rip:#x}" for rip in sorted(row.rips)]
    return (
        f"port {row.address:#x}" if row.space is Space.PIO else f"{row.address:#x}",
        f"{row.reads:,}",
        f"{row.writes:,}",
        " ".join(str(width) for width in sorted(row.widths)) or "?",
        " ".join(sorted(row.modes)) or "?",
        f"{row.in_user_space:,}",
        "?" if row.last_value is None else f"{row.last_value:#x}",
        "?" if row.mean_seconds is None else f"{row.mean_seconds * 1e6:.1f}",
        "?" if row.mean_seconds is None else f"{row.longest_seconds * 1e6:.1f}",
        rips[0] + (f" +{len(rips) - 1}" if len(rips) > 1 else "") if rips else "?",
    )


def _rounded(number: float | None) -> float | None:
    """Return a number without the noise of binary fractions; a trace has microseconds, at best nanoseconds."""
    return None if number is None else round(number, 9)


def _hex(value: int | None) -> str | None:
    return None if value is None else f"{value:#x}"


def _loop_value(loop: Loop, completed: Register | None) -> dict[str, Any]:
    cause = find_cause(loop)
    return {
        "vcpu": loop.vcpu,
        "thread": loop.thread or None,
        "tid": loop.tid,
        "process": loop.process,
        "rip": _hex(loop.rip),
        "gpa": _hex(loop.gpa),
        "reason": loop.reason,
        "info": _hex(loop.info),
        "bits": list(loop.bits),
        "access": "fetch" if loop.fetch else loop.direction,
        "mmio": loop.mmio,
        "mode": loop.mode,
        "mode_reason": loop.mode_reason,
        "encrypted": loop.encrypted,
        "unmappings": loop.unmapped,
        "completed_elsewhere": 0 if completed is None else completed.count,
        "exits": loop.exits,
        "failed_emulations": loop.failures,
        "seconds": _rounded(loop.seconds),
        "exits_per_second": _rounded(loop.rate),
        "first_line": loop.first_line,
        "last_line": loop.last_line,
        "ending": loop.ending.name.lower(),
        "cause": {
            "name": cause.name,
            "known": cause.known,
            "explanation": cause.explanation,
            "to_be_checked": list(cause.open),
            "remedies": list(cause.remedies),
        },
    }


def _incident_value(each: VcpuIncident) -> dict[str, Any]:
    incident = each.incident
    return {
        "kind": incident.kind,
        "user_exit": incident.user_exit._asdict() if incident.user_exit else None,
        "errno": incident.errno_name or None,
        "vcpu": each.vcpu,
        "thread": each.thread or None,
        "tid": each.tid,
        "reason": incident.exit.reason if incident.exit else None,
        "rip": _hex(incident.exit.rip) if incident.exit else None,
        "info": [_hex(incident.exit.info1), _hex(incident.exit.info2)] if incident.exit else None,
        "gpa": _hex(incident.gpa),
        "instruction": incident.instruction or None,
        "exception": incident.exception or None,
        "nested": incident.nested,
        "count": incident.count,
        "first_line": incident.first_line,
        "last_line": incident.last_line,
        "ran_again": incident.entered,
        "meaning": incident.meaning,
    }


def _qemu_error_value(error: InternalError) -> dict[str, Any]:
    return {
        "line": error.line,
        "words": error.words or None,
        "suberror": error.suberror,
        "data": [_hex(each) for each in error.data],
    }


def _register_value(row: Register) -> dict[str, Any]:
    return {
        "space": row.space,
        "address": _hex(row.address),
        "reads": row.reads,
        "writes": row.writes,
        "in_user_space": row.in_user_space,
        "widths": sorted(row.widths),
        "modes": sorted(row.modes),
        "rips": [_hex(rip) for rip in sorted(row.rips)],
        "last_value": _hex(row.last_value),
        "mean_seconds": _rounded(row.mean_seconds),
        "longest_seconds": _rounded(row.longest_seconds) if row.timed else None,
    }


def _waiting_value(wait: Waiting) -> dict[str, Any]:
    record = wait.record
    return {
        "vcpu": record.vcpu,
        "tid": wait.tid,
        "access": str(record),
        "rip": _hex(record.rip),
        "line": wait.line,
        "seconds": _rounded(wait.seconds),
    }

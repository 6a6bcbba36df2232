"""Probed and surveyed device registers, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from testbed.actions.attempt import Probed
    from testbed.actions.mmio_survey import Read, SurveyRow
    from testbed.actions.probe_result import Timing
    from testbed.machine.stall_place import ExitLoop

_SCHEMA = 1
_RIGHT = ("user ns", "kernel ns", "width")


def print_probed(probed: Probed, name: str, console: Console) -> None:
    """Print what came of one access."""
    console.print(f"[bold]{escape(name)}[/bold]: {escape(str(probed.register.access))}", highlight=False)
    for label, words in _lines(probed):
        console.print(f"  {label:<11} {escape(words)}", highlight=False, soft_wrap=True)


def _lines(probed: Probed) -> list[tuple[str, str]]:
    register, loop = probed.register, probed.loop
    lines = [("address", f"{register.gpa:#x}"), ("process", _process(probed))]
    if probed.timing:
        lines.append(("time", _time(probed.timing)))
    if register.space is not None:
        lines.append(("device", _device(probed)))
    if loop:
        lines.append(("exit loop", f"{loop.where}: {loop.executions} executions, {loop.rate:.0f}/s (modelled)"))
        lines.append(("vCPU", f"{loop.arrival.circumstances}; CR4 {loop.arrival.registers.values['cr4']:#x}"))
    elif probed.passage:
        lines.append(("vCPU", f"{probed.passage.arrival.circumstances}: the model held nothing"))
    if probed.modelled:
        lines.append(("modelled", probed.modelled))
    return lines


def _process(probed: Probed) -> str:
    if probed.timing:
        return f"completed; value {probed.timing.last:#x}"
    if probed.fault:
        return f"ended by {probed.fault}"
    if probed.guest_seconds is None:
        return "did not complete; the guest's kernel was held, and counted no seconds"
    return f"did not complete in {probed.guest_seconds:.1f} guest s"


def _time(timing: Timing) -> str:
    if timing.count == 1:
        return f"{timing.max_ns} ns"
    return f"{timing.count} accesses: {timing.min_ns} ns at least, {timing.mean_ns} mean, {timing.max_ns} at most"


def _device(probed: Probed) -> str:
    if not probed.seen:
        return "got no access"
    first = probed.seen[0]
    return f"got {len(probed.seen)}, the first: {first} ({first.region})"


def probed_value(probed: Probed) -> dict[str, Any]:
    """Return what came of one access as JSON values: addresses as hexadecimal strings, times in nanoseconds."""
    register = probed.register
    return {
        "schema": _SCHEMA,
        "route": register.access.route,
        "direction": register.access.direction,
        "width": register.access.width,
        "address": f"{register.gpa:#x}",
        "completed": probed.completed,
        "fault": probed.fault or None,
        "timing": _timing_value(probed.timing),
        "accesses_seen": len(probed.seen),
        "regions": sorted({record.region for record in probed.seen}),
        "modelled": probed.modelled or None,
        "exit_loop": _loop_value(probed.loop),
        "let_through": probed.passage.count if probed.passage else 0,
    }


def _loop_value(loop: ExitLoop | None) -> dict[str, Any] | None:
    if loop is None:
        return None
    arrival = loop.arrival
    return {
        "vcpu": arrival.vcpu,
        "rip": f"{arrival.registers.rip:#x}",
        "gpa": None if arrival.gpa is None else f"{arrival.gpa:#x}",
        "executions": loop.executions,
        "rate": round(loop.rate, 1),
        "cpl": arrival.circumstances.cpl,
        "smap": arrival.circumstances.smap,
        "cpu": str(arrival.circumstances.cpu),
    }


def print_survey(rows: Sequence[SurveyRow], console: Console) -> None:
    """Print the registers that were read, a row for each width; times are the shortest of all reads."""
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("function", "driver", "BAR", "register", "width", "user", "user ns", "kernel", "kernel ns"):
        table.add_column(heading, justify="right" if heading in _RIGHT else "left", no_wrap=heading == "function")
    before: SurveyRow | None = None
    for row in rows:
        new = before is None or before.owner != row.owner
        first = new or (before is not None and before.bar != row.bar)
        table.add_row(
            str(row.owner.address) if new else "",
            (row.owner.driver or "-") if new else "",
            f"{row.bar.index} {row.bar.space} {row.bar.size:#x}" if first else "",
            f"{row.bar.start + row.offset:#x}",
            str(row.width),
            *_read_cells(row.user),
            *_read_cells(row.kernel),
        )
        before = row
    console.print(table)
    for fault in dict.fromkeys(read.fault for row in rows for read in (row.user, row.kernel) if read.fault):
        console.print(f"[yellow]note[/yellow]: {escape(fault)}", highlight=False, soft_wrap=True)


def _read_cells(read: Read) -> tuple[str, str]:
    if read.timing is None:
        return "in use" if "in use" in read.fault else "refused", "-"
    changes = f" (first {read.timing.first:#x})" if read.timing.first != read.timing.last else ""
    return f"{read.timing.last:#x}{changes}", str(read.timing.min_ns)


def survey_value(rows: Sequence[SurveyRow]) -> dict[str, Any]:
    """Return the registers that were read as JSON values."""
    return {"schema": _SCHEMA, "registers": [_row_value(row) for row in rows]}


def _row_value(row: SurveyRow) -> dict[str, Any]:
    return {
        "function": str(row.owner.address),
        "vendor": f"{row.owner.vendor:04x}",
        "device": f"{row.owner.device:04x}",
        "driver": row.owner.driver or None,
        "bar": row.bar.index,
        "space": row.bar.space,
        "size": row.bar.size,
        "address": f"{row.bar.start + row.offset:#x}",
        "offset": row.offset,
        "width": row.width,
        "user": _read_value(row.user),
        "kernel": _read_value(row.kernel),
    }


def _read_value(read: Read) -> dict[str, Any]:
    return {"fault": read.fault or None, "timing": _timing_value(read.timing)}


def _timing_value(timing: Timing | None) -> dict[str, Any] | None:
    if timing is None:
        return None
    return {**asdict(timing), "first": f"{timing.first:#x}", "last": f"{timing.last:#x}"}

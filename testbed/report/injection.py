"""Injections to the terminal and to JSON: verdict, registers before and after, and what the kernel said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from testbed.actions.injection import InjectionVerdict
from testbed.model.aer_name import record_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from testbed.actions.injection import Injection
    from testbed.guest.error_path import ErrorPath, ErrorRegisters
    from testbed.model.outcome import Finding
    from testbed.model.recovery import Recovery

SCHEMA = 2
_COLOURS = {
    InjectionVerdict.INJECTED: "green",
    InjectionVerdict.MASKED: "yellow",
    InjectionVerdict.NOT_REPORTED: "red",
    InjectionVerdict.REFUSED: "red",
}


def print_injection(injection: Injection, console: Console) -> None:
    """Print one injection with everything it rests on."""
    colour = _COLOURS[injection.verdict]
    head = f"{injection.request} ({injection.target.driver}, {injection.target.bdf})"
    verdict = f"[bold {colour}]{injection.verdict}[/] by {injection.route}"
    console.print(f"{escape(head)}: {verdict}", highlight=False, soft_wrap=True)
    print_findings(injection.findings, console)
    console.print(_registers_table(injection))
    for record in injection.log:
        console.print(escape(f"{record.reference} {record}"), highlight=False, soft_wrap=True)


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print what was seen, each with where it is recorded; a number that is not the expected one, with that."""
    for finding in findings:
        counted = finding.subject.startswith(("counter", "the word"))
        lacks = counted and finding.observed.partition(",")[0] != finding.expected
        wanted = f", expected {finding.expected}" if lacks else ""
        words = escape(f"{finding.subject}: {finding.observed}{wanted}")
        console.print(f"  {words} [dim]({finding.evidence})[/dim]", highlight=False, soft_wrap=True)


def print_injections(injections: Sequence[Injection], console: Console) -> None:
    """Print many as a table: what each route made of each error."""
    table = Table(show_edge=False)
    for name in ("error", "severity", "route", "verdict", "recovery", "why"):
        table.add_column(name, overflow="fold", no_wrap=name in ("error", "verdict"))
    for each in injections:
        colour = _COLOURS[each.verdict]
        table.add_row(
            escape(record_words(each.record)),
            each.severity,
            each.route,
            f"[{colour}]{each.verdict}[/]",
            escape(_recovery_words(each.recovery)),
            "" if each.verdict is InjectionVerdict.INJECTED else escape(each.reason),
        )
    console.print(table, highlight=False)


def injection_json(injection: Injection) -> dict[str, Any]:
    """Return everything about an injection."""
    target = injection.target
    return {
        "device": target.device,
        "vf": target.vf,
        "driver": target.driver,
        "function": str(target.bdf),
        "errors": [{"qemu": each.qemu, "kernel": each.kernel, "bit": each.bit} for each in injection.record.errors],
        "severity": injection.severity,
        "verdict": injection.verdict,
        "route": injection.route,
        "reason": injection.reason,
        "choice": injection.choice,
        "attempts": [
            {"route": each.route, "verdict": each.verdict, "why": each.why, "evidence": each.evidence}
            for each in injection.attempts
        ],
        "recovery": _recovery_json(injection.recovery),
        "counters": [
            {"counter": each.subject.removeprefix("counter "), "expected": each.expected, "observed": each.observed}
            for each in injection.counters
        ],
        "before": register_rows(injection.before),
        "after": register_rows(injection.after),
        "log": [{"line": each.reference, "seconds": each.seconds, "text": each.text} for each in injection.log],
    }


def register_rows(path: ErrorPath | None) -> dict[str, str]:
    """Return the registers on an error's way by their names; none if the function does not answer."""
    if path is None:
        return {}
    rows: dict[str, str] = {}
    for each in reversed(path.functions):
        rows |= {f"{each.bdf} {name}": value for name, value in _rows(each, whole=each is path.device)}
    return rows


def _rows(function: ErrorRegisters, *, whole: bool) -> list[tuple[str, str]]:
    aer, express = function.aer, function.express
    rows = [
        ("Command", f"{function.space.command:#06x}"),
        ("Device Control", f"{express.control:#06x}"),
        ("Device Status", f"{express.status:#06x}"),
    ]
    if aer and whole:
        rows += [
            ("Uncorrectable Error Status", f"{aer.status:#010x}"),
            ("Uncorrectable Error Mask", f"{aer.mask:#010x}"),
            ("Uncorrectable Error Severity", f"{aer.severity:#010x}"),
            ("Correctable Error Status", f"{aer.correctable_status:#010x}"),
            ("Correctable Error Mask", f"{aer.correctable_mask:#010x}"),
            ("Header Log", _words(aer.header_log)),
            ("TLP Prefix Log", _words(function.prefix_log)),
        ]
    if aer and aer.root:
        rows += [
            ("Root Error Command", f"{aer.root.command:#010x}"),
            ("Root Error Status", f"{aer.root.status:#010x}"),
            ("Error Source", f"{aer.root.correctable_source:#06x} {aer.root.uncorrectable_source:#06x}"),
        ]
    return rows


def _words(words: Sequence[int] | None) -> str:
    return " ".join(f"{word:08x}" for word in words) if words else "-"


def _registers_table(injection: Injection) -> Table:
    before, after = register_rows(injection.before), register_rows(injection.after)
    table = Table(show_edge=False)
    for name in ("register", "before", "after"):
        table.add_column(name, overflow="fold")
    for name in before or after:
        was, now = before.get(name, "-"), after.get(name, "no answer")
        table.add_row(escape(name), was, now if now == was else f"[bold]{now}[/bold]")
    return table


def _recovery_words(recovery: Recovery | None) -> str:
    if recovery is None:
        return ""
    vetoes = "; ".join(f"{veto.device}: {veto.reason}" for veto in recovery.vetoes)
    return f"{recovery.state}" + (f" ({vetoes})" if vetoes else "")


def _recovery_json(recovery: Recovery | None) -> dict[str, Any] | None:
    if recovery is None:
        return None
    return {
        "port": str(recovery.port),
        "source": str(recovery.source),
        "severity": recovery.severity,
        "seconds": round(recovery.seconds, 6),
        "path": [
            {"state": step.state, "by": str(step.device), "line": step.record.reference} for step in recovery.path
        ],
        "vetoes": [
            {"device": str(veto.device), "reason": veto.reason, "line": veto.record.reference}
            for veto in recovery.vetoes
        ],
    }

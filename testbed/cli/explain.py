"""`testbed explain`: what a customer's files show, without any boot."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from testbed.cli.terminal import err, out, plain
from testbed.explain.check import Answer
from testbed.explain.evidence import gather
from testbed.explain.explanation import explain_evidence
from testbed.explain.holder import Holder
from testbed.explain.host_check import check_host
from testbed.explain.source import ACCEPTED, MAX_BYTES, split_parts
from testbed.model.errors import InputError
from testbed.model.pci import Bdf
from testbed.model.printable import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from testbed.explain.check import Check
    from testbed.explain.evidence import Evidence
    from testbed.explain.explanation import Explanation
    from testbed.explain.holder import Control
    from testbed.explain.source import Part
    from testbed.explain.statement import Statement
    from testbed.explain.step import Step
    from testbed.explain.suspect import Suspect

_SCHEMA = 1
_STDIN = "stdin"
_COLOURS = {
    Holder.LINUX: "green",
    Holder.ACPI: "green",
    Holder.PLATFORM: "yellow",
    Holder.NOBODY: "red",
    Holder.UNKNOWN: "dim",
}
_ANSWERS = {Answer.YES: "green", Answer.NO: "red", Answer.UNKNOWN: "yellow", Answer.IDLE: "dim"}


def explain(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Kernel log (dmesg, journalctl -k, serial console), /proc/cmdline, /proc/interrupts, lspci -vvv, "
            "QEMU's log: any of them, even quoted in a mail; recognised by content; - is stdin.",
        ),
    ],
    passthrough: Annotated[
        str | None,
        typer.Option(
            metavar="BB:DD.F",
            help="Check instead what the host needs to pass this function, or its VFs, through to a VM.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the explanation as JSON.")] = False,
) -> None:
    """Work out from a machine's logs who controls hot-plug, AER and PME, and why; boots nothing.

    Every statement names the lines it rests on. Exits with 0 if nothing suspicious was found, with 1 if something was.
    With --passthrough: 1 if anything is missing, 125 if the files leave an item unknown.
    """
    parts = _parts(list(dict.fromkeys(files)))
    evidence = gather(parts)
    if passthrough is not None:
        raise typer.Exit(_check(parts, evidence, passthrough, as_json=as_json))
    explanation = explain_evidence(evidence)
    if as_json:
        plain(json.dumps(_document(parts, explanation), indent=1))
    else:
        _print(parts, explanation)
    raise typer.Exit(1 if explanation.is_suspicious else 0)


def _parts(files: list[str]) -> list[Part]:
    """Return what the files hold; an empty one beside others (there was nothing to list) is left out, and named."""
    contents = {_name(file): _content(file) for file in files}
    empty = [name for name, data in contents.items() if not data.strip()]
    if len(empty) < len(contents):
        for name in empty:
            err.print(f"[dim]{escape(name)} is empty, and ignored[/dim]", highlight=False, soft_wrap=True)
            del contents[name]
    return [part for name, data in contents.items() for part in split_parts(name, data)]


def _check(parts: Sequence[Part], evidence: Evidence, function: str, *, as_json: bool) -> int:
    """Print the check list for a function; return the exit code."""
    try:
        address = Bdf.parse(function)
    except ValueError as error:
        raise InputError(f"--passthrough {error}") from None
    checks = check_host(evidence, address)
    if as_json:
        document = {"schema": _SCHEMA, "sources": _sources(parts), "function": str(address)}
        plain(json.dumps({**document, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        _print_sources(parts)
        _print_checks(address, checks)
    answers = {check.answer for check in checks}
    return 1 if Answer.NO in answers else 125 if Answer.UNKNOWN in answers else 0


def _name(file: str) -> str:
    return _STDIN if file == "-" else file


def _content(file: str) -> bytes:
    """Return a file's bytes; raise InputError if it cannot be read."""
    try:
        if file == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        # by name: it may be a pipe, whose end is not known before
        with open(file, "rb") as stream:  # noqa: PTH123
            return stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"reading {_name(file)}: {reason}", hint=ACCEPTED) from None


def _document(parts: Sequence[Part], explanation: Explanation) -> dict[str, Any]:
    return {
        "schema": _SCHEMA,
        "suspicious": explanation.is_suspicious,
        "sources": _sources(parts),
        **asdict(explanation),
    }


def _sources(parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [
        {"file": part.file, "kind": part.kind, "first": part.lines[0].number, "last": part.lines[-1].number}
        for part in parts
    ]


def _print(parts: Sequence[Part], explanation: Explanation) -> None:
    _print_sources(parts)
    _print_statements("what it is", explanation.subject)
    _print_control(explanation.control)
    _print_statements("the files contradict each other", explanation.contradictions)
    _print_statements("what else they show", explanation.observations)
    _print_suspects(explanation.suspects)
    _print_steps(explanation.steps)
    if not explanation.is_suspicious:
        out.print("[green]nothing suspicious was found[/green]")


def _print_sources(parts: Sequence[Part]) -> None:
    kinds: dict[str, list[str]] = {}
    for part in parts:
        kinds.setdefault(part.file, []).append(part.span)
    table = _columns("taken for", 2)
    for file, spans in kinds.items():
        table.add_row(_safe(file), escape(", ".join(spans)))
    _show(table)


def _print_checks(address: Bdf, checks: Sequence[Check]) -> None:
    """Print one line an item, and below it what to do where it is not a yes."""
    table = _columns(f"to pass {address} through", 4)
    for check in checks:
        answer = f"[{_ANSWERS[check.answer]}]{check.answer}[/{_ANSWERS[check.answer]}]"
        table.add_row(escape(check.item), answer, _safe(check.why), _cited(check.evidence))
        if check.remedy:
            table.add_row("", "", f"→ {_safe(check.remedy)}", "")
    _show(table)


def _print_statements(title: str, statements: Sequence[Statement]) -> None:
    if not statements:
        return
    table = _columns(title, 2, first_folds=True)
    for each in statements:
        text = _safe(each.text)
        table.add_row(f"[red]{text}[/red]" if each.suspicious else text, _cited(each.evidence))
    _show(table)


def _print_control(rows: Sequence[Control]) -> None:
    for bridge in dict.fromkeys(row.bridge for row in rows):
        title = f"who controls what below {bridge}" if bridge else "who controls what"
        table = Table(title=_safe(title), title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
        for heading in ("service", "who"):
            table.add_column(heading, no_wrap=True)
        table.add_column("why", overflow="fold", ratio=3)
        table.add_column("evidence", overflow="fold", ratio=2)
        for row in rows:
            if row.bridge == bridge:
                who = f"{row.holder} ({row.driver})" if row.driver else f"{row.holder}"
                colour = _COLOURS[row.holder] if row.suspects or row.holder is not Holder.NOBODY else "dim"
                table.add_row(row.service, f"[{colour}]{who}[/{colour}]", _safe(row.why), _cited(row.evidence))
        _show(table)


def _print_suspects(suspects: Sequence[Suspect]) -> None:
    if not suspects:
        return
    table = _columns("suspect", 4)
    for each in suspects:
        seen = "" if each.seen else " (a known effect; none of these files shows it)"
        cost = f"costs {', '.join(each.takes)}"
        table.add_row(f"[red]{_safe(each.name)}[/red]", cost, _safe(each.why) + seen, _cited(each.evidence))
    _show(table)


def _print_steps(steps: Sequence[Step]) -> None:
    """Print what to try; unfolded, for it is to be pasted."""
    if not steps:
        return
    out.print("[bold]what to try next[/bold]")
    for step in steps:
        out.print(f"{_safe(step.why)}{':' if step.command else ''}", highlight=False, soft_wrap=True)
        if step.command:
            out.print(f"  {_safe(step.command)}", highlight=False, soft_wrap=True)
    out.print()


def _columns(title: str, count: int, *, first_folds: bool = False) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        show_header=False,
        show_edge=False,
        box=None,
        padding=(0, 2, 0, 0),
    )
    table.add_column(overflow="fold", no_wrap=not first_folds)
    for _ in range(count - 1):
        table.add_column(overflow="fold")
    return table


def _show(table: Table) -> None:
    out.print(table, highlight=False)
    out.print()


def _cited(references: Iterable[str]) -> str:
    return f"[dim]{_safe(', '.join(references))}[/dim]"


def _safe(text: str) -> str:
    """Return a customer's text so that it controls neither the terminal nor the markup."""
    return escape(harmless(text).replace("\n", " "))

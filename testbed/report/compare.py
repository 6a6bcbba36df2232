"""What differs between machines, for people: results first, then where the timelines part, then the facts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from testbed.model.comparison import DIVERGENCE, LATENCY, VERDICT
from testbed.model.fact import FactKind
from testbed.model.outcome import Verdict
from testbed.report.folded import Folded
from testbed.report.terminal import VerdictRow, verdict_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

    from testbed.model.comparison import Comparison, Difference, Group

_TITLES = {
    FactKind.CONTROL: "who controls what",
    FactKind.INTERRUPT: "interrupt sources",
    FactKind.SLOT: "slots in sysfs",
    FactKind.DRIVER: "bound drivers",
    FactKind.PCI: "PCI tree",
    FactKind.CAPABILITY: "capabilities",
    FactKind.REGISTER: "device registers",
    FactKind.QEMU: "QEMU's devices",
}
#: names in one row before the rest is counted
_NAMED = 6
_NOTHING = "[dim]-[/dim]"


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the result of every column, neighbours that are alike as one, and then only what differs."""
    for scenario in dict.fromkeys(group.scenario for group in comparison.groups):
        groups = [group for group in comparison.groups if group.scenario == scenario]
        differences = [each for each in comparison.differences if each.scenario == scenario]
        console.print(_results(scenario, groups))
        console.print(Folded(_summary(groups), indent=4))
        for labels, part in _by_columns(differences).items():
            _print_pair(labels, part, console)
        if not differences:
            console.print(_no_difference(comparison, groups), highlight=False)
    for label, hint in _hints(comparison):
        console.print(f"[yellow]{escape(label)}[/yellow]: {escape(hint)}", highlight=False, soft_wrap=True)


def _hints(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield hints for the columns that could not be judged: the first of each group."""
    labels = [column.label for column in comparison.columns]
    # the cells stand scenario by scenario, in each column by column
    hints = {(cell.scenario, labels[index % len(labels)]): cell.hint for index, cell in enumerate(comparison.cells)}
    for group in comparison.groups:
        hint = hints.get((group.scenario, group.columns[0]))
        if hint:
            yield _span(group.columns), hint


def _no_difference(comparison: Comparison, groups: Sequence[Group]) -> str:
    ran = [column for group in groups if group.verdict is not Verdict.SKIP for column in group.columns]
    if len(ran) < 2:
        return "[yellow]nothing could be compared[/yellow]"
    facts = "" if len(comparison.columns) == 2 else "; facts are compared where the result changes, or of two columns"
    return f"[green]no difference[/green]{facts}"


def _results(scenario: str, groups: Sequence[Group]) -> Table:
    rows = [
        VerdictRow(
            verdict=group.verdict,
            name=f"{_span(group.columns)}: {group.outcome}",
            guest_seconds=group.guest_seconds,
            reason=group.reason,
        )
        for group in groups
    ]
    return verdict_table(f"scenario {scenario}", rows)


def _summary(groups: Sequence[Group]) -> str:
    """Return the groups in one line, as people say it: `pc-q35-2.4 … 6.0: bad; 6.1 … 7.2: good`."""
    said, head = [], ""
    for group in groups:
        span = _span(group.columns)
        said.append(f"{span.removeprefix(head) if head else span}: {group.verdict}")
        head = _head(group.columns[-1])
    return "; ".join(said)


def _head(label: str) -> str:
    """Return what a versioned machine type has in common with its neighbours; nothing of another label."""
    head, dash, version = label.rpartition("-")
    return f"{head}-" if dash and version[:1].isdecimal() else ""


def _span(labels: Sequence[str]) -> str:
    """Return the first and the last of some columns, the last without what they have in common."""
    first, last = labels[0], labels[-1]
    if len(labels) == 1:
        return first
    head = _head(last)
    short = last.removeprefix(head) if head and first.startswith(head) else last
    return f"{first} … {short}" if len(labels) > 2 else f"{first}, {short}"


def _by_columns(differences: Iterable[Difference]) -> dict[tuple[str, ...], list[Difference]]:
    parts: dict[tuple[str, ...], list[Difference]] = {}
    for each in differences:
        parts.setdefault(tuple(each.values), []).append(each)
    return parts


def _print_pair(labels: tuple[str, ...], differences: Sequence[Difference], console: Console) -> None:
    console.print()
    console.print(Folded(f"{labels[0]} and {labels[1]}", style="bold", indent=4))
    for each in differences:
        if each.kind in (VERDICT, LATENCY):
            one, other = (each.values[label] or "-" for label in labels)
            console.print(Folded(f"{each.kind}: {one}, {other}", indent=4))
        elif each.kind == DIVERGENCE:
            for line in _divergence(each, labels):
                console.print(Folded(line, indent=4))
    for kind, title in _TITLES.items():
        part = [each for each in differences if each.kind == kind]
        if part:
            console.print()
            console.print(_table(title, labels, part), highlight=False)
    _print_log(labels, [each for each in differences if each.kind == FactKind.LOG], console)
    console.print()


def _divergence(each: Difference, labels: tuple[str, ...]) -> Iterator[str]:
    """Yield at which event one went on, and what the other did instead."""
    first = each.subject
    yield f"the timelines part after: {each.aspect or 'the stimulus'}"
    for label in sorted(labels, key=lambda label: label != first):
        said = each.values[label]
        cited = f" {each.evidence[label]}" if label in each.evidence else ""
        how = "goes on" if label == first else "does not"
        yield f"  {label} {how}: {said or 'nothing more'}{cited}"


def _table(title: str, labels: tuple[str, ...], differences: Sequence[Difference]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    table.add_column("what", ratio=3)
    for label in labels:
        table.add_column(Folded(label), ratio=4)
    table.add_column("evidence", ratio=2)
    for what, each in _merged(differences):
        values = [_NOTHING if each.values[label] is None else Folded(each.values[label] or "") for label in labels]
        cited = ", ".join(dict.fromkeys(each.evidence[label] for label in labels if label in each.evidence))
        table.add_row(Folded(what), *values, Folded(cited, style="dim"))
    return table


def _merged(differences: Sequence[Difference]) -> Iterator[tuple[str, Difference]]:
    """Yield the rows: things with the same difference together."""
    rows: dict[tuple[object, ...], list[Difference]] = {}
    for each in differences:
        rows.setdefault((each.aspect, *each.values.items()), []).append(each)
    for same in rows.values():
        names = sorted((each.subject for each in same), key=_natural)
        named = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        yield f"{named}: {same[0].aspect}" if same[0].aspect else named, same[0]


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return what sorts `rp2` before `rp10`."""
    parts = re.split(r"([0-9]{1,9})", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part]


def _print_log(labels: tuple[str, ...], differences: Sequence[Difference], console: Console) -> None:
    for label in labels:
        lines = [each for each in differences if each.values[label] is not None]
        if lines:
            console.print()
            console.print(f"[bold]kernel log, only in {escape(label)}[/bold]", highlight=False)
        for each in lines:
            cited = f"[dim]{escape(each.evidence[label])}[/dim]"
            console.print(f"  {escape(each.subject)} {cited}", highlight=False, soft_wrap=True)

"""An atlas for people: one page of Markdown, whose summary the terminal shows too, and its JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from testbed.model.outcome import CaseResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

    from testbed.model.atlas import AtlasCase, AtlasColumn, AtlasNote, AtlasReport, AtlasResult, Boundary

#: how a place of the summary is marked
_MARKS = {
    CaseResult.REPRODUCED: "yes",
    CaseResult.DIFFERS: "differs",
    CaseResult.SKIPPED: "skipped",
    CaseResult.BROKEN: "broken",
}
_COLOURS = {"yes": "green", "differs": "red", "broken": "red", "skipped": "yellow"}
_AXES = {"kernel": "Linux", "qemu": "QEMU"}


def atlas_json(report: AtlasReport) -> str:
    """Return an atlas as an object."""
    return json.dumps(report.model_dump(mode="json", by_alias=True), indent=1) + "\n"


def print_atlas(report: AtlasReport, console: Console) -> None:
    """Print where each case is reproduced, and where not and why."""
    table = Table(show_edge=False, pad_edge=False)
    heading, *places = _headings(report)
    table.add_column(heading)
    for place in places:
        table.add_column(place, overflow="fold")
    for name, *marks in _summary(report):
        table.add_row(name, *(f"[{_COLOURS.get(mark.partition(',')[0], 'dim')}]{mark}[/]" for mark in marks))
    console.print(table)
    for line in _why(report):
        console.print(escape(line), highlight=False, soft_wrap=True)


def atlas_page(report: AtlasReport) -> str:
    """Return the page: the summary, then each case with what is not as documented, and its boundaries."""
    return "\n".join((*_head(report), *(line for case in report.cases for line in _case(case, report)))) + "\n"


def _head(report: AtlasReport) -> Iterator[str]:
    yield "# Atlas"
    yield ""
    kernels, qemus = (", ".join(map(_named, columns)) for columns in (report.kernels, report.qemus))
    whole = "" if report.complete else "It was interrupted: some cells are missing. "
    cases = f"{len(report.cases)} case{'s' * (len(report.cases) != 1)}"
    yield f"{whole}{cases}, {report.cells} cells, {_span(report.seconds)} of guests in all."
    yield ""
    yield f"- Linux: {kernels}"
    yield f"- QEMU: {qemus}"
    yield from (f"- not available: {_AXES[gap.axis]} `{gap.name}`: {gap.why}" for gap in report.gaps)
    yield ""
    heading, *places = _headings(report)
    yield _row([heading, *places])
    yield _row(["---"] * (len(places) + 1))
    yield from (_row(row) for row in _summary(report))


def _case(case: AtlasCase, report: AtlasReport) -> Iterator[str]:
    yield ""
    yield f"## {case.case}"
    yield ""
    yield f"{case.title}."
    yield ""
    said = (_since(case, report), _differing(case, report), map(_boundary, case.boundaries), _skipped(case))
    yield from (f"- {line}" for lines in said for line in lines)


def _since(case: AtlasCase, report: AtlasReport) -> Iterator[str]:
    """Yield with which versions a case is reproduced, beside each that several were tried with."""
    there = {(each.kernel, each.qemu): each.result for each in case.results}
    for kernel in report.kernels:
        with_qemu = [(qemu, there[at]) for qemu in report.qemus if (at := (kernel.name, qemu.name)) in there]
        yield from _reproduced(f"Linux {_short(kernel)}", "QEMU", with_qemu)
    for qemu in report.qemus:
        with_kernel = [(kernel, there[at]) for kernel in report.kernels if (at := (kernel.name, qemu.name)) in there]
        yield from _reproduced(f"QEMU {_short(qemu)}", "Linux", with_kernel)


def _reproduced(beside: str, what: str, results: Sequence[tuple[AtlasColumn, CaseResult]]) -> Iterator[str]:
    yes = [_short(column) for column, result in results if result is CaseResult.REPRODUCED]
    tried = [_short(column) for column, _ in results]
    if len(tried) < 2:
        return
    if yes == tried:
        yield f"on {beside}: reproduced with {what} {', '.join(yes)}"
    else:
        found = f"{what} {', '.join(yes)}" if yes else f"no {what}"
        yield f"on {beside}: reproduced with {found} of {', '.join(tried)}"


def _differing(case: AtlasCase, report: AtlasReport) -> Iterator[str]:
    for result in case.results:
        for note in (*result.differing, *result.broken):
            yield f"{_where(result, report)}: `{note.cell}`{_more(note)}: {note.reason}"


def _boundary(boundary: Boundary) -> str:
    why = f": {boundary.reason}" if boundary.reason else "; why is not known"
    return (
        f"`{boundary.cell}`: {boundary.answer_before} up to {_AXES[boundary.axis]} {boundary.before}, "
        f"{boundary.answer_since} from {boundary.since} on{why}"
    )


def _skipped(case: AtlasCase) -> Iterator[str]:
    """Yield each reason for which cells were skipped, once, with how many cells of how many places have it."""
    reasons: dict[str, list[AtlasNote]] = {}
    for result in case.results:
        for note in result.skipped:
            reasons.setdefault(note.reason, []).append(note)
    for reason, notes in reasons.items():
        count = sum(note.count for note in notes)
        yield f"skipped: {count} cell{'s' * (count != 1)}: {reason}"


def _why(report: AtlasReport) -> Iterable[str]:
    for gap in report.gaps:
        yield f"not available: {_AXES[gap.axis]} {gap.name}: {gap.why}"
    for case in report.cases:
        yield from (f"{case.case}, {line}" for line in _differing(case, report))


def _headings(report: AtlasReport) -> list[str]:
    return ["case", *(f"Linux {_short(kernel)}, QEMU {_short(qemu)}" for kernel, qemu in _places(report))]


def _summary(report: AtlasReport) -> Iterator[list[str]]:
    places = _places(report)
    for case in report.cases:
        marks = {(result.kernel, result.qemu): _mark(result) for result in case.results}
        yield [case.case, *(marks.get((kernel.name, qemu.name), "") for kernel, qemu in places)]


def _mark(result: AtlasResult) -> str:
    return _MARKS[result.result] + (f", {result.missing} not run" if result.missing else "")


def _places(report: AtlasReport) -> list[tuple[AtlasColumn, AtlasColumn]]:
    there = {(result.kernel, result.qemu) for case in report.cases for result in case.results}
    return [(kernel, qemu) for kernel in report.kernels for qemu in report.qemus if (kernel.name, qemu.name) in there]


def _where(result: AtlasResult, report: AtlasReport) -> str:
    kernel = next(each for each in report.kernels if each.name == result.kernel)
    qemu = next(each for each in report.qemus if each.name == result.qemu)
    return f"Linux {_short(kernel)}, QEMU {_short(qemu)}"


def _short(column: AtlasColumn) -> str:
    """Return a version without what only its package says: `6.12.95` of `6.12.95+deb12-amd64`."""
    return column.version.partition("+")[0].partition("-")[0]


def _named(column: AtlasColumn) -> str:
    return f"{column.version} (`{column.name}`)" if column.name else column.version


def _more(note: AtlasNote) -> str:
    return f" and {note.count - 1} more" if note.count > 1 else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

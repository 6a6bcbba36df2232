"""What an atlas says, in words: its summary, a mark for each case and place, and what is to be said of each case.

The terminal, the page in Markdown and the one in HTML all show these; what stands between backticks is code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.outcome import CaseResult
from testbed.model.version_rule import version_number
from testbed.report.time_left import span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.model.atlas import AtlasCase, AtlasColumn, AtlasNote, AtlasReport, AtlasResult, Boundary
    from testbed.model.spec import FirmwareKind

    #: kernel, QEMU, firmware
    Place = tuple[AtlasColumn, AtlasColumn, FirmwareKind]

#: how a case's result is marked: a sign, for whoever sees no colours, and a word
_MARKS = {
    CaseResult.REPRODUCED: "✓ yes",
    CaseResult.DIFFERS: "✗ differs",
    CaseResult.SKIPPED: "\u2013 skipped",
    CaseResult.BROKEN: "! broken",
}
_AXES = {"kernel": "Linux", "qemu": "QEMU"}
CHANGES = "changes between"
#: of a sha256, enough to tell two builds apart
_SHORT_HASH = 12


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a case came to on a place."""

    result: CaseResult
    text: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The table of all cases and places."""

    places: list[str]
    rows: list[Row]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A case in the table."""

    case: str
    marks: list[Mark | None]  #: on each place; None: it has no result there
    changes: str  #: between which versions an answer changes


def summary(report: AtlasReport) -> Summary:
    """Return where each case is reproduced."""
    places = _places(report)
    marks = {(case.case, *_at(result)): _mark(result) for case in report.cases for result in case.results}
    return Summary(
        places=[_place_text(place, report) for place in places],
        rows=[
            Row(
                case=case.case,
                marks=[marks.get((case.case, *_names(place))) for place in places],
                changes=", ".join(_changes(case)),
            )
            for case in report.cases
        ],
    )


def _changes(case: AtlasCase) -> Iterator[str]:
    """Yield the narrowest pairs of versions between which an answer changes, as `QEMU 5.2.0 → 7.2.22`."""
    pairs = dict.fromkeys((each.axis, each.before, each.since) for each in case.boundaries)
    for axis, before, since in pairs:
        others = (pair for pair in pairs if pair[0] == axis and pair != (axis, before, since))
        low, high = version_number(before), version_number(since)
        if not any(low <= version_number(old) and version_number(new) <= high for _, old, new in others):
            yield f"{_AXES[axis]} {_plain(before)} → {_plain(since)}"


def extent(report: AtlasReport) -> str:
    """Return how much was judged."""
    whole = "" if report.complete else "It was interrupted: some cells are missing. "
    cases = f"{len(report.cases)} case{'s' * (len(report.cases) != 1)}"
    made = f", by testbed {report.testbed}" if report.testbed else ""
    return f"{whole}{cases}, {report.cells} cells, {span(report.seconds)} of guests in all{made}."


def columns(report: AtlasReport) -> Iterator[str]:
    """Yield what it was made with, and what could not be had."""
    for what, each in (("Linux", report.kernels), ("QEMU", report.qemus)):
        for column in each:
            name = f" (`{column.name}`)" if column.name else ""
            yield f"{what} {column.version}{name}: {column.package}, sha256 {column.sha256[:_SHORT_HASH]}"
    if len(report.firmwares) > 1:
        yield f"firmware: {', '.join(report.firmwares)}"
    yield from gaps(report)


def gaps(report: AtlasReport) -> Iterator[str]:
    """Yield what could not be had, and why."""
    yield from (f"not available: {_AXES[gap.axis]} `{gap.name}`: {gap.why}" for gap in report.gaps)


def said_of(case: AtlasCase, report: AtlasReport) -> Iterator[str]:
    """Yield what is to be said of a case: since when, what is not as documented, boundaries, what was skipped."""
    yield from _since(case, report)
    yield from differing(case, report)
    yield from _boundaries(case, report)
    yield from _skipped(case)


def differing(case: AtlasCase, report: AtlasReport) -> Iterator[str]:
    """Yield which cells of a case are not as documented, and which could not be judged."""
    texts = {_names(place): _place_text(place, report) for place in _places(report)}
    for result in case.results:
        for note in (*result.differing, *result.broken):
            yield f"{texts[_at(result)]}: `{note.cell}`{_more(note)}: {note.reason}"


def _since(case: AtlasCase, report: AtlasReport) -> Iterator[str]:
    """Yield with which versions a case is reproduced, beside each that several were tried with."""
    there = {_at(result): result.result for result in case.results}
    for firmware in report.firmwares:
        for kernel in report.kernels:
            found = [(qemu, there.get((kernel.name, qemu.name, firmware))) for qemu in report.qemus]
            yield from _reproduced(f"Linux {_short(kernel)}{_under(firmware, report)}", "QEMU", found)
        for qemu in report.qemus:
            found = [(kernel, there.get((kernel.name, qemu.name, firmware))) for kernel in report.kernels]
            yield from _reproduced(f"QEMU {_short(qemu)}{_under(firmware, report)}", "Linux", found)


def _reproduced(beside: str, what: str, results: Sequence[tuple[AtlasColumn, CaseResult | None]]) -> Iterator[str]:
    tried = [_short(column) for column, result in results if result]
    yes = [_short(column) for column, result in results if result is CaseResult.REPRODUCED]
    if len(tried) < 2:
        return
    if yes == tried:
        yield f"on {beside}: reproduced with {what} {', '.join(yes)}"
    else:
        found = f"{what} {', '.join(yes)}" if yes else f"no {what}"
        yield f"on {beside}: reproduced with {found} of {', '.join(tried)}"


def _boundaries(case: AtlasCase, report: AtlasReport) -> Iterator[str]:
    """Yield each boundary once, with all that it was seen beside."""
    beside: dict[Boundary, list[str]] = {}
    shorts = {column.name: _short(column) for column in (*report.kernels, *report.qemus)}
    for each in case.boundaries:
        other = "QEMU" if each.axis == "kernel" else "Linux"
        where = f"{other} {shorts[each.beside]}{_under(each.firmware, report)}"
        beside.setdefault(each.model_copy(update={"beside": "", "firmware": "seabios"}), []).append(where)
    for each, wheres in beside.items():
        why = f": {each.reason}" if each.reason else "; the reason is not known"
        yield (
            f"`{each.cell}`: {each.answer_before} up to {_AXES[each.axis]} {each.before}, "
            f"{each.answer_since} from {each.since} on{why} (seen on {', '.join(wheres)})"
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


def _mark(result: AtlasResult) -> Mark:
    missing = f", {result.missing} not run" if result.missing else ""
    return Mark(result=result.result, text=_MARKS[result.result] + missing)


def _places(report: AtlasReport) -> list[Place]:
    there = {_at(result) for case in report.cases for result in case.results}
    every = (
        (kernel, qemu, firmware) for kernel in report.kernels for qemu in report.qemus for firmware in report.firmwares
    )
    return [place for place in every if _names(place) in there]


def _names(place: Place) -> tuple[str, str, str]:
    kernel, qemu, firmware = place
    return kernel.name, qemu.name, firmware


def _at(result: AtlasResult) -> tuple[str, str, str]:
    return result.kernel, result.qemu, result.firmware


def _place_text(place: Place, report: AtlasReport) -> str:
    kernel, qemu, firmware = place
    return f"Linux {_short(kernel)}, QEMU {_short(qemu)}{_under(firmware, report)}"


def _under(firmware: str, report: AtlasReport) -> str:
    """Return the firmware, if there are several."""
    return f", {firmware}" if len(report.firmwares) > 1 else ""


def _short(column: AtlasColumn) -> str:
    """Return a version without what only its package says: `6.12.95` of `6.12.95+deb12-amd64`."""
    return _plain(column.version)


def _plain(version: str) -> str:
    return version.partition("+")[0].partition("-")[0]


def _more(note: AtlasNote) -> str:
    return f" and {note.count - 1} more" if note.count > 1 else ""

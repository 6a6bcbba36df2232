"""An atlas for people: its summary on the terminal, a page in Markdown or HTML, and its JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from markupsafe import Markup
from rich.markup import escape
from rich.table import Table

from testbed.model.outcome import CaseResult
from testbed.report.atlas_words import CHANGES, columns, differing, extent, gaps, said_of, summary
from testbed.report.page_frame import render_page

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from testbed.model.atlas import AtlasCase, AtlasReport
    from testbed.report.atlas_words import Mark

_COLOURS = {
    CaseResult.REPRODUCED: "green",
    CaseResult.DIFFERS: "red",
    CaseResult.BROKEN: "red",
    CaseResult.SKIPPED: "yellow",
}
#: the style of a cell's verdict that a case's result is shown in
_STYLES = {
    CaseResult.REPRODUCED: "good",
    CaseResult.DIFFERS: "bad",
    CaseResult.SKIPPED: "skip",
    CaseResult.BROKEN: "broken",
}


def atlas_json(report: AtlasReport) -> str:
    """Return an atlas as an object."""
    return json.dumps(report.model_dump(mode="json", by_alias=True), indent=1) + "\n"


def print_atlas(report: AtlasReport, console: Console) -> None:
    """Print where each case is reproduced, and where not and why."""
    told = summary(report)
    table = Table(show_edge=False, pad_edge=False)
    # the longest name whole, however narrow the terminal is
    table.add_column("case", min_width=max((len(row.case) for row in told.rows), default=0))
    for place in told.places:
        table.add_column(escape(place), overflow="fold")
    table.add_column(CHANGES, overflow="fold")
    for row in told.rows:
        table.add_row(escape(row.case), *map(_coloured, row.marks), escape(row.changes))
    console.print(table)
    for line in (*gaps(report), *(f"{case.case}, {line}" for case in report.cases for line in differing(case, report))):
        console.print(escape(line), highlight=False, soft_wrap=True)


def atlas_page(report: AtlasReport) -> str:
    """Return the page in Markdown: the summary, then each case with what is not as documented, and its boundaries."""
    return "\n".join((*_head(report), *(line for case in report.cases for line in _case(case, report)))) + "\n"


def atlas_html(report: AtlasReport) -> str:
    """Return the same page in HTML: one file, without a script, that loads nothing."""
    told = summary(report)
    cases = [(case.case, case.title, [_inline(line) for line in said_of(case, report)]) for case in report.cases]
    return render_page(
        "atlas.html.j2",
        extent=extent(report),
        columns=[_inline(line) for line in columns(report)],
        headings=[*told.places, CHANGES],
        rows=told.rows,
        styles=_STYLES,
        cases=cases,
    )


def _head(report: AtlasReport) -> Iterator[str]:
    told = summary(report)
    yield from ("# Atlas", "", extent(report), "")
    yield from (f"- {line}" for line in columns(report))
    yield from ("", _row(["case", *told.places, CHANGES]), _row(["---"] * (len(told.places) + 2)))
    for row in told.rows:
        yield _row([row.case, *(mark.text if mark else "" for mark in row.marks), row.changes])


def _case(case: AtlasCase, report: AtlasReport) -> Iterator[str]:
    yield from ("", f"## {case.case}", "", f"{case.title}.", "")
    yield from (f"- {line}" for line in said_of(case, report))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _coloured(mark: Mark | None) -> str:
    return f"[{_COLOURS[mark.result]}]{mark.text}[/]" if mark else ""


def _inline(line: str) -> Markup:
    """Return a line as HTML: what stands between backticks is code, and all of it is text."""
    pieces = line.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if number % 2 else piece for number, piece in enumerate(pieces)
    )

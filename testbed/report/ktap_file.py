"""Outcomes for kernel CI: KTAP version 1 (Linux, Documentation/dev-tools/ktap.rst)."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING

from testbed.model.outcome import Verdict
from testbed.model.printable import harmless
from testbed.report.axes import suite_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from testbed.model.outcome import Outcome

#: what ends a description or begins a directive, and what kunit.py takes for the end of a kernel's log
_MARKS = re.compile("#|List of all partitions:|Kernel panic - not syncing: VFS:|reboot: System halted")


def to_ktap(outcomes: Sequence[Outcome]) -> str:
    """Return KTAP: a test per case or scenario with a subtest per cell.

    What JUnit calls a failure is `not ok`, an error `not ok … # ERROR`, skipped `ok … # SKIP`.
    """
    suites = [(name, list(cells)) for name, cells in groupby(outcomes, key=suite_of)]
    lines = ["KTAP version 1", f"1..{len(suites)}"]
    for number, (name, cells) in enumerate(suites, 1):
        lines += (f"  {line}" for line in _subtests(name, cells))
        result = "ok" if all(map(_passed, cells)) else "not ok"
        skipped = " # SKIP" if all(cell.verdict is Verdict.SKIP for cell in cells) else ""
        lines.append(f"{result} {number} {ktap_text(name)}{skipped}")
    return "\n".join(lines) + "\n"


def ktap_text(text: str) -> str:
    """Return text on one line, in which nothing is taken for a line's end, a directive or the end of a log."""
    line = harmless(text).replace("\t", "\\t").replace("\n", "\\n")
    return _MARKS.sub(lambda match: f"\\x{ord(match[0][0]):02x}{match[0][1:]}", line)


def _subtests(name: str, cells: Sequence[Outcome]) -> Iterator[str]:
    # KTAP names a test after its subtests; kunit.py takes the second line for its name, up to Linux 6.2 for its start
    yield from ("KTAP version 1", f"# Subtest: {ktap_text(name)}", f"1..{len(cells)}")
    for number, cell in enumerate(cells, 1):
        yield from (f"# {ktap_text(line)}" for line in _diagnostics(cell))
        result = "ok" if _passed(cell) else "not ok"
        said = f" # {ktap_text(_said(cell))}" if _said(cell) else ""
        yield f"{result} {number} {ktap_text(cell.id)}{said}"


def _passed(outcome: Outcome) -> bool:
    return outcome.verdict is Verdict.SKIP or outcome.as_expected


def _said(outcome: Outcome) -> str:
    """Return directive and reason; of a documented verdict that is not good what it is."""
    if outcome.verdict is Verdict.SKIP:
        return f"SKIP {outcome.reason}"
    if outcome.verdict is Verdict.BROKEN:
        return f"ERROR {outcome.reason}"
    if not outcome.as_expected:
        return f"{outcome.disagreement}: {outcome.reason}"
    return "" if outcome.verdict is Verdict.GOOD else f"{outcome.verdict} ({outcome.outcome}) as documented"


def _diagnostics(outcome: Outcome) -> Iterable[str]:
    """Yield what a failure rests on; of a test that passed there is nothing to say."""
    if _passed(outcome):
        return
    for each in outcome.findings:
        yield f"finding: {each.subject}: expected {each.expected}, observed {each.observed} ({each.evidence})"
    if outcome.hint:
        yield f"hint: {outcome.hint}"
    yield f"rundir: {outcome.rundir}"

"""From the outcomes of all columns to what differs between them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from testbed.campaign.cell.judge import REJECTED
from testbed.campaign.compare.differences import divergence, fact_differences, result_differences
from testbed.campaign.compare.groups import Ran, collapse, pairs_to_compare
from testbed.campaign.compare.parting import story
from testbed.campaign.record.timeline import read_timeline
from testbed.campaign.run import worst_exit
from testbed.model.comparison import Comparison, Difference, Group
from testbed.model.fact import FACTS_FILE, Fact, Facts
from testbed.model.outcome import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.model.comparison import Column


def compare(
    columns: Sequence[Column], scenarios: Sequence[str], outcomes: Sequence[Outcome], *, every_line: bool = False
) -> Comparison:
    """Compare the outcomes of scenarios, given scenario by scenario and in each column by column."""
    groups: list[Group] = []
    differences: list[Difference] = []
    cells: list[Outcome] = []
    for index, scenario in enumerate(scenarios):
        part = _skipped_if_rejected(outcomes[index * len(columns) : (index + 1) * len(columns)])
        cells += part
        ran = [Ran(column.label, outcome) for column, outcome in zip(columns, part, strict=True)]
        groups += [_group(scenario, each) for each in collapse(ran)]
        for one, other in pairs_to_compare(ran):
            differences += _differences(scenario, one, other, every_line=every_line)
    return Comparison(columns=tuple(columns), groups=tuple(groups), cells=tuple(cells), differences=tuple(differences))


def _skipped_if_rejected(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes; a machine that its QEMU refuses to start is skipped where the scenario runs on another."""
    if all(outcome.outcome == REJECTED for outcome in outcomes):
        return list(outcomes)
    skipped = {"verdict": Verdict.SKIP}
    return [outcome.model_copy(update=skipped) if outcome.outcome == REJECTED else outcome for outcome in outcomes]


def exit_code(comparison: Comparison) -> int:
    """Return the exit code: 1 where something differs, else as `testbed run`; what could not be judged counts more."""
    codes = [1] if comparison.differences else [0]
    codes += [125 for cell in comparison.cells if cell.verdict is Verdict.SKIP]
    codes += [128 for cell in comparison.cells if cell.verdict is Verdict.BROKEN]
    codes += [2 for cell in comparison.cells if cell.verdict is Verdict.BROKEN and cell.outcome == REJECTED]
    return worst_exit(codes)


def _group(scenario: str, ran: Sequence[Ran]) -> Group:
    first = ran[0].outcome
    return Group(
        scenario=scenario,
        columns=tuple(each.label for each in ran),
        verdict=first.verdict,
        outcome=first.outcome,
        reason=first.reason,
        guest_seconds=first.guest_seconds,
    )


def _differences(scenario: str, one: Ran, other: Ran, *, every_line: bool) -> Iterator[Difference]:
    labels = one.label, other.label
    rundirs = Path(one.outcome.rundir), Path(other.outcome.rundir)
    yield from result_differences(scenario, one, other)
    if one.outcome.verdict != other.outcome.verdict:
        parted = divergence(scenario, labels, *(story(read_timeline(each)) for each in rundirs))
        if parted:
            yield parted
    facts = _read_facts(rundirs[0]), _read_facts(rundirs[1])
    if all(facts):
        yield from fact_differences(scenario, labels, *facts, every_line=every_line)


def _read_facts(rundir: Path) -> tuple[Fact, ...]:
    """Return the facts of a cell; none if its guest never came to its shell."""
    try:
        return Facts.validate_json((rundir / FACTS_FILE).read_bytes())
    except (OSError, ValidationError):
        return ()

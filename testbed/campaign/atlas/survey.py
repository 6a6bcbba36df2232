"""Survey: from the outcomes of an atlas to where each case is reproduced, and between which versions answers change."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from testbed.campaign.atlas.atlas import RECORD, Atlas, ascending, recorded_plan
from testbed.campaign.cell.judge import OTHER_VERSION
from testbed.campaign.matrix.results import recorded_runs
from testbed.campaign.run import summarize
from testbed.model.atlas import AtlasCase, AtlasNote, AtlasReport, AtlasResult, Boundary
from testbed.model.errors import InputError
from testbed.model.outcome import Verdict
from testbed.model.version_rule import AXES, version_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from testbed.campaign.atlas.atlas import At
    from testbed.campaign.case import Case
    from testbed.model.atlas import AtlasColumn
    from testbed.model.matrix import MatrixRun
    from testbed.model.outcome import Cell, Outcome
    from testbed.model.spec import FirmwareKind
    from testbed.model.version_rule import Axis

    #: a cell as its case has it, and what it gave
    Judged = tuple[Cell, Outcome]


#: the answer of a version that lacks what the question needs, and of one for which the case has no row
NOT_ASKED, NOT_DOCUMENTED = "cannot be asked", "no row of the case"


def survey(atlas: Atlas, runs: Iterable[MatrixRun]) -> AtlasReport:
    """Return what an atlas says, as far as it has run."""
    of_case: dict[str, dict[At, list[Judged]]] = {case.name: defaultdict(list) for case in atlas.cases}
    totals = Counter(atlas.position(index) for index in range(len(atlas)))
    count, seconds = 0, 0.0
    for run in runs:
        name, at = atlas.position(run.index)
        of_case[name][at].append((_same(atlas[run.index], run.outcome), run.outcome))
        count, seconds = count + 1, seconds + run.outcome.wall_seconds
    plan = atlas.plan
    columns: dict[Axis, list[AtlasColumn]] = {"kernel": ascending(plan.kernels), "qemu": ascending(plan.qemus)}
    return AtlasReport(
        kernels=columns["kernel"],
        qemus=columns["qemu"],
        firmwares=plan.firmwares,
        testbed=plan.testbed,
        gaps=plan.gaps,
        complete=count == len(atlas),
        cells=count,
        seconds=round(seconds, 1),
        cases=[_case(case, of_case[case.name], totals, columns) for case in atlas.cases],
    )


def recorded_atlas(folder: Path) -> AtlasReport:
    """Return what the atlas of a rundir says so far; raise InputError if there is none or it cannot be read."""
    return survey(Atlas(plan=recorded_plan(folder / RECORD)), recorded_runs(folder))


def _same(cell: Cell, outcome: Outcome) -> Cell:
    """Return a cell if an outcome is its; raise InputError if its case is not what it was when it was judged."""
    if cell.id != outcome.id:
        raise InputError(
            f"atlas: {outcome.id} was judged, but its case has {cell.id} there now",
            hint="a case has changed since it began; start a new atlas",
        )
    return cell


def _case(
    case: Case,
    judged: dict[At, list[Judged]],
    totals: Mapping[tuple[str, At], int],
    columns: dict[Axis, list[AtlasColumn]],
) -> AtlasCase:
    # what a row that has not run yet would answer is not known: no boundary rests on such a place
    whole = {at: each for at, each in judged.items() if len(each) == totals[case.name, at]}
    return AtlasCase(
        case=case.name,
        title=case.title,
        results=[_result(case.name, at, each, totals[case.name, at]) for at, each in judged.items()],
        boundaries=[
            each
            for firmware in dict.fromkeys(at[2] for at in whole)
            for axis in AXES
            for each in _boundaries(axis, firmware, whole, columns)
        ],
    )


def _result(case: str, at: At, judged: Sequence[Judged], total: int) -> AtlasResult:
    outcomes = [outcome for _, outcome in judged]
    by_verdict = {verdict: [each for each in outcomes if each.verdict is verdict] for verdict in Verdict}
    ran = [each for each in outcomes if each.verdict in (Verdict.GOOD, Verdict.BAD)]
    return AtlasResult(
        kernel=at[0],
        qemu=at[1],
        firmware=at[2],
        result=summarize(case, outcomes).result,
        ran=len(ran),
        missing=total - len(judged),
        differing=_notes([each for each in ran if not each.as_expected], lambda each: each.disagreement),
        skipped=_notes(by_verdict[Verdict.SKIP], lambda each: each.reason),
        broken=_notes(by_verdict[Verdict.BROKEN], lambda each: each.reason),
    )


def _notes(outcomes: Sequence[Outcome], why: Callable[[Outcome], str]) -> list[AtlasNote]:
    """Return each reason once, with the first cell that has it."""
    cells: dict[str, list[str]] = defaultdict(list)
    for outcome in outcomes:
        cells[why(outcome).partition("\n")[0]].append(outcome.id)
    return [AtlasNote(cell=ids[0], count=len(ids), reason=reason) for reason, ids in cells.items()]


def _boundaries(
    axis: Axis, firmware: FirmwareKind, judged: dict[At, list[Judged]], columns: dict[Axis, list[AtlasColumn]]
) -> Iterator[Boundary]:
    """Yield where neighbouring versions on an axis answer a question in different ways, all else being fixed."""
    for beside in columns["qemu" if axis == "kernel" else "kernel"]:
        there = [(each, _at(axis, each, beside, firmware)) for each in columns[axis]]
        for (older, before), (newer, since) in pairwise(pair for pair in there if pair[1] in judged):
            first, second = _answers(judged[before]), _answers(judged[since])
            for question in (each for each in first if each in second):
                was, now = first[question], second[question]
                if was.text != now.text:
                    yield Boundary(
                        cell=question,
                        axis=axis,
                        beside=beside.name,
                        firmware=firmware,
                        before=older.version,
                        since=newer.version,
                        answer_before=was.text,
                        answer_since=now.text,
                        reason=_rule(axis, was.rows, older.version, newer.version) or _lack(was) or _lack(now),
                    )


def _at(axis: Axis, column: AtlasColumn, beside: AtlasColumn, firmware: FirmwareKind) -> At:
    kernel, qemu = (column, beside) if axis == "kernel" else (beside, column)
    return kernel.name, qemu.name, firmware


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """What was answered to a question of a case."""

    rows: tuple[Cell, ...] = ()  #: that ask it, each for its versions
    given: str = ""
    lacks: str = ""  #: why it could not be asked

    @property
    def text(self) -> str:
        """Return the answer, or why there is none."""
        return self.given or (NOT_ASKED if self.lacks else NOT_DOCUMENTED)


def _answers(judged: Sequence[Judged]) -> dict[str, _Answer]:
    """Return what was answered to each question of a case."""
    found: dict[str, _Answer] = {}
    for cell, outcome in judged:
        if outcome.verdict is Verdict.BROKEN:
            continue
        question = cell.model_copy(update={"image": "debian", "qemu": ""}).id
        answer = found.get(question, _Answer())
        given, lacks = answer.given, answer.lacks
        if outcome.verdict is not Verdict.SKIP:
            given = f"{outcome.verdict} ({outcome.outcome})"
        elif outcome.outcome != OTHER_VERSION:
            lacks = outcome.reason.partition("\n")[0]
        found[question] = _Answer(rows=(*answer.rows, cell), given=given, lacks=lacks)
    return found


def _lack(answer: _Answer) -> str:
    return "" if answer.given else answer.lacks


def _rule(axis: Axis, cells: Sequence[Cell], before: str, since: str) -> str:
    """Return why an answer changes between two versions, if a rule of one of the rows is about a version there."""
    for cell in cells:
        for rule in (cell.since, cell.until):
            if rule and version_number(before) < version_number(rule.version(axis)) <= version_number(since):
                return rule.reason
    return ""

"""What a found set changed in the guest: the evidence of the trials that prove it, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from testbed.campaign.bisect.result import Goal
from testbed.campaign.compare.differences import fact_differences
from testbed.campaign.record.evidence import read_lines
from testbed.explain.evidence import Evidence
from testbed.explain.explanation import explain_evidence
from testbed.explain.kernel_log import read_log
from testbed.explain.source import Kind, Line, Part
from testbed.model.bisect import Change
from testbed.model.cmdline import CommandLine
from testbed.model.fact import FACTS_FILE, FactKind, Facts
from testbed.model.osc import read_bridges

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from testbed.campaign.bisect.oracle import Tried
    from testbed.model.comparison import Difference
    from testbed.model.fact import Fact
    from testbed.model.outcome import Finding, Outcome

_LOG = "kernel.log"
#: where /proc/cmdline stands in an outcome
_CMDLINE_AT = "outcome.json"
_NOTHING = "-"
_WITH, _WITHOUT = "with", "without"
#: what the guest does with its machine, and what it sees of it. QEMU's own tree is what was changed, not what came of
#: it; of the log the findings cite what matters
_SERVICES = (FactKind.CONTROL, FactKind.INTERRUPT, FactKind.SLOT, FactKind.DRIVER)
_FUNCTIONS = (FactKind.PCI, FactKind.CAPABILITY)
#: what stands before a fact's subject, where that is not clear by itself
_CALLED: dict[str, str] = {FactKind.INTERRUPT: "interrupts: ", FactKind.SLOT: "slots "}


@dataclass(frozen=True, kw_only=True)
class Explained:
    """What a set is known to do, and what was seen to change with it."""

    why: tuple[str, ...]
    changes: tuple[Change, ...]


def explain_set(names: Sequence[str], only: Tried, without: Tried, *, goal: Goal) -> Explained:
    """Compare the trial with only the set to one without a member of it; the rules of `testbed explain` say why."""
    if only.outcome is None or without.outcome is None:
        return Explained(why=(), changes=())
    bad = _evidence(only.outcome if goal is Goal.CULPRIT else without.outcome)
    suspects = explain_evidence(bad).suspects if bad else ()
    why = tuple(f"{each.name}: {each.why}" for each in suspects if goal is Goal.REMEDY or each.name in names)
    sides = (only.outcome, without.outcome)
    return Explained(
        why=why,
        changes=(*_facts_changed(*sides, _SERVICES), *_observed(*sides), *_facts_changed(*sides, _FUNCTIONS)),
    )


def _evidence(outcome: Outcome) -> Evidence | None:
    """Read the kernel's log of an outcome; None if its rundir is gone or has none."""
    read = read_lines(Path(outcome.rundir) / _LOG)
    if not read:
        return None
    lines = tuple(Line(file=_LOG, number=number, text=text) for number, text in enumerate(read, 1))
    log = read_log(Part(kind=Kind.LOG, file=_LOG, lines=lines))
    return Evidence(
        cmdline=CommandLine(outcome.kernel_cmdline),
        cmdline_at=_CMDLINE_AT,
        log=log,
        bridges=read_bridges(log.records),
    )


def _facts_changed(only: Outcome, without: Outcome, kinds: Collection[FactKind]) -> list[Change]:
    """Return the facts of some kinds that differ; none if a side's are gone."""
    labels = (_WITH, _WITHOUT)
    facts = [[fact for fact in _facts_of(outcome) if fact.kind in kinds] for outcome in (only, without)]
    if not all(facts):
        return []
    alike: dict[tuple[str, ...], list[Difference]] = {}
    for each in fact_differences(only.scenario, labels, facts[0], facts[1]):
        values = (each.values[_WITH] or _NOTHING, each.values[_WITHOUT] or _NOTHING)
        alike.setdefault((each.kind, each.aspect, *values), []).append(each)
    return [_told_once(same) for same in alike.values()]


def _told_once(same: Sequence[Difference]) -> Change:
    """Return the change of several things that is the same in each: four ports that lose their driver."""
    first = same[0]
    subjects = ", ".join(each.subject for each in same)
    return Change(
        subject=f"{_CALLED.get(first.kind, '')}{subjects} {first.aspect}".strip(),
        with_set=first.values[_WITH] or _NOTHING,
        without=first.values[_WITHOUT] or _NOTHING,
        evidence=tuple(f"{label}: {place}" for label, place in first.evidence.items()),
    )


def _facts_of(outcome: Outcome) -> tuple[Fact, ...]:
    """Return the facts that a trial left in its rundir; none if it left none, or that is gone."""
    try:
        return Facts.validate_json((Path(outcome.rundir) / FACTS_FILE).read_bytes())
    except (OSError, ValidationError):
        return ()


def _observed(only: Outcome, without: Outcome) -> list[Change]:
    """Return the findings that differ, matched by subject and order."""
    here, there = _by_subject(only.findings), _by_subject(without.findings)
    changes = []
    for subject in dict.fromkeys([*here, *there]):
        for one, other in zip_longest(here.get(subject, []), there.get(subject, [])):
            if one is None or other is None or one.observed != other.observed:
                changes.append(_change(subject, one, other))
    return changes


def _by_subject(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.subject, []).append(finding)
    return found


def _change(subject: str, one: Finding | None, other: Finding | None) -> Change:
    return Change(
        subject=subject,
        with_set=one.observed if one else _NOTHING,
        without=other.observed if other else _NOTHING,
        evidence=_cited((one.evidence,) if one else (), (other.evidence,) if other else ()),
    )


def _cited(here: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
    return (*(f"{_WITH}: {place}" for place in here[:1]), *(f"{_WITHOUT}: {place}" for place in there[:1]))

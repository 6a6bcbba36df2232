"""What differs between two cells: result, facts, and where their timelines part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.campaign.compare.groups import same_latency
from testbed.campaign.compare.parting import parting
from testbed.model.comparison import DIVERGENCE, LATENCY, VERDICT, Difference
from testbed.model.fact import Fact, FactKind
from testbed.model.log_text import is_relevant
from testbed.model.outcome import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from testbed.campaign.compare.groups import Ran
    from testbed.campaign.compare.parting import Moment

    Key = tuple[FactKind, str, str]

#: kinds whose things are told apart by the facts of another kind
_PART_OF = {FactKind.CAPABILITY: FactKind.PCI, FactKind.DRIVER: FactKind.PCI}


def result_differences(scenario: str, one: Ran, other: Ran) -> Iterator[Difference]:
    """Yield how verdict, outcome or latency differ."""
    results = (one.outcome.verdict, one.outcome.outcome), (other.outcome.verdict, other.outcome.outcome)
    evidence = {ran.label: _result_evidence(ran) for ran in (one, other)}
    if results[0] != results[1]:
        values: dict[str, str | None] = {
            ran.label: f"{ran.outcome.verdict} ({ran.outcome.outcome})" for ran in (one, other)
        }
        yield Difference(scenario=scenario, kind=VERDICT, subject=scenario, values=values, evidence=evidence)
    elif one.outcome.verdict is not Verdict.BROKEN and not same_latency(
        one.outcome.guest_seconds, other.outcome.guest_seconds
    ):
        values = {ran.label: _seconds(ran.outcome.guest_seconds) for ran in (one, other)}
        yield Difference(scenario=scenario, kind=LATENCY, subject=scenario, values=values, evidence=evidence)


def _result_evidence(ran: Ran) -> str:
    return ran.outcome.findings[0].evidence if ran.outcome.findings else "outcome.json"


def _seconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f} guest s"


def fact_differences(
    scenario: str, labels: tuple[str, str], one: Sequence[Fact], other: Sequence[Fact], *, every_line: bool = False
) -> list[Difference]:
    """Return how facts differ, in the order of their kinds; of the log what is relevant, unless `every_line`."""
    facts = [_by_key(one, every_line=every_line), _by_key(other, every_line=every_line)]
    lonely = _lonely(facts)
    keys = [key for key in dict.fromkeys([*facts[0], *facts[1]]) if not _is_told_by_its_thing(key, lonely)]
    order = list(FactKind)
    return [
        _difference(scenario, key, labels, (facts[0].get(key), facts[1].get(key)))
        for key in sorted(keys, key=lambda key: order.index(key[0]))
        if _value(facts[0].get(key)) != _value(facts[1].get(key))
    ]


def _by_key(facts: Sequence[Fact], *, every_line: bool) -> dict[Key, Fact]:
    return {
        (fact.kind, fact.subject, fact.aspect): fact
        for fact in facts
        if fact.kind is not FactKind.LOG or every_line or is_relevant(fact.subject)
    }


def _lonely(facts: list[dict[Key, Fact]]) -> set[tuple[FactKind, str]]:
    """Return the things that only one side has."""
    things = [{(kind, subject) for kind, subject, aspect in each if not aspect} for each in facts]
    return things[0] ^ things[1]


def _is_told_by_its_thing(key: Key, lonely: set[tuple[FactKind, str]]) -> bool:
    """Return whether a fact is about a thing that only one side has, which is said once."""
    kind, subject, aspect = key
    if kind in _PART_OF:
        return (_PART_OF[kind], subject) in lonely
    return bool(aspect) and (kind, subject) in lonely


def _difference(scenario: str, key: Key, labels: tuple[str, str], facts: tuple[Fact | None, Fact | None]) -> Difference:
    kind, subject, aspect = key
    sides = list(zip(labels, facts, strict=True))
    return Difference(
        scenario=scenario,
        kind=str(kind),
        subject=subject,
        aspect=aspect,
        values={label: _value(fact) for label, fact in sides},
        evidence={label: fact.evidence for label, fact in sides if fact},
    )


def _value(fact: Fact | None) -> str | None:
    return fact.value if fact else None


def divergence(
    scenario: str, labels: tuple[str, str], one: Sequence[Moment], other: Sequence[Moment]
) -> Difference | None:
    """Return the first event that one side's timeline has and the other's has not, and what the other has instead."""
    parted = parting(one, other) if one and other else None
    if parted is None:
        return None
    moments = [(label, moment) for label, moment in zip(labels, parted.moments, strict=True) if moment]
    moments.sort(key=lambda each: each[1].seconds)
    return Difference(
        scenario=scenario,
        kind=DIVERGENCE,
        subject=moments[0][0],
        aspect=parted.after,
        values=dict.fromkeys(labels) | {label: str(moment) for label, moment in moments},
        evidence={label: moment.evidence for label, moment in moments},
    )

"""Outcomes and facts as a comparison gets them."""

from __future__ import annotations

from typing import Any

from testbed.campaign.compare.groups import Ran
from testbed.model.fact import Fact, FactKind
from testbed.model.outcome import Finding, Outcome, Verdict

from . import outcomes

_WORDS = {Verdict.GOOD: "deleted", Verdict.BAD: "ignored", Verdict.SKIP: "unsupported", Verdict.BROKEN: "no-boot"}


def outcome(verdict: Verdict, seconds: float | None = None, **given: Any) -> Outcome:
    """Return the outcome of an unplug."""
    finding = Finding(subject="QMP event", expected="DEVICE_DELETED", observed="none", evidence="qmp.jsonl:9")
    told = {"outcome": _WORDS[verdict], "reason": "because", "findings": (finding,), "guest_seconds": seconds}
    return outcomes.outcome(verdict, **{**told, "wall_seconds": 1.0, "rundir": "/nonexistent", **given})


def ran(label: str, verdict: Verdict, seconds: float | None = None, **given: Any) -> Ran:
    """Return a column's result."""
    return Ran(label, outcome(verdict, seconds, **given))


def fact(kind: FactKind, subject: str, value: str = "there", aspect: str = "", evidence: str = "shell.jsonl:4") -> Fact:
    """Return a fact."""
    return Fact(kind=kind, subject=subject, aspect=aspect, value=value, evidence=evidence)

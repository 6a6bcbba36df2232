"""Outcomes and facts as a comparison gets them."""

from __future__ import annotations

from typing import Any

from testbed.campaign.compare.groups import Ran
from testbed.model.fact import Fact, FactKind
from testbed.model.outcome import Finding, Outcome, Role, Verdict

_WORDS = {Verdict.GOOD: "deleted", Verdict.BAD: "ignored", Verdict.SKIP: "unsupported", Verdict.BROKEN: "no-boot"}


def outcome(verdict: Verdict, seconds: float | None = None, **given: Any) -> Outcome:
    """Return the outcome of an unplug."""
    finding = Finding(subject="QMP event", expected="DEVICE_DELETED", observed="none", evidence="qmp.jsonl:9")
    plain: dict[str, Any] = {
        "id": "disk-unplug q35",
        "scenario": "disk-unplug",
        "machine": "q35",
        "machine_type": "q35",
        "parameters": {},
        "cmdline": "",
        "kernel_cmdline": "",
        "image": "debian",
        "kernel": "6.1",
        "qemu": "qemu 7.2",
        "cpu": "qemu64",
        "accel": "tcg",
        "verdict": verdict,
        "outcome": _WORDS[verdict],
        "expected": None,
        "role": Role.EXTRA,
        "reason": "because",
        "findings": (finding,),
        "guest_seconds": seconds,
        "wall_seconds": 1.0,
        "rundir": "/nonexistent",
    }
    return Outcome(**{**plain, **given})


def ran(label: str, verdict: Verdict, seconds: float | None = None, **given: Any) -> Ran:
    """Return a column's result."""
    return Ran(label, outcome(verdict, seconds, **given))


def fact(kind: FactKind, subject: str, value: str = "there", aspect: str = "", evidence: str = "shell.jsonl:4") -> Fact:
    """Return a fact."""
    return Fact(kind=kind, subject=subject, aspect=aspect, value=value, evidence=evidence)

"""Outcomes that no guest was booted for."""

from __future__ import annotations

from typing import Any

from testbed.model.outcome import Finding, Outcome, Role, Verdict


def outcome(verdict: Verdict = Verdict.GOOD, expected: Verdict | None = None, **given: Any) -> Outcome:
    """Return the outcome of an unplug on q35; what else is given replaces the fields of that name."""
    plain: dict[str, Any] = {
        "id": "disk-unplug q35",
        "scenario": "disk-unplug",
        "machine": "q35",
        "machine_type": "q35",
        "parameters": {},
        "cmdline": "",
        "kernel_cmdline": "",
        "image": "debian",
        "kernel": "linux",
        "qemu": "qemu",
        "cpu": "qemu64",
        "accel": "tcg",
        "verdict": verdict,
        "outcome": "word",
        "expected": expected,
        "role": Role.EXTRA,
        "reason": "reason",
        "findings": (Finding(subject="s", expected="e", observed="o", evidence="qmp.jsonl:1"),),
        "guest_seconds": 1.0,
        "wall_seconds": 2.0,
        "rundir": "/runs/1",
    }
    return Outcome(**{**plain, **given})

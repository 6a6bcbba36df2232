"""Cells, findings and outcomes: what is tried, what was seen, and what it means.

These pydantic models are the JSON schema of `--json`; `testbed schema` prints it.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from testbed.model.json_value import JsonValue
from testbed.model.setup import Setup, given_text, setup_text
from testbed.model.version_rule import AXES, VersionRule, outside

if TYPE_CHECKING:
    from testbed.model.errors import BlockedError

SCHEMA_VERSION = 1


class Verdict(enum.StrEnum):
    """What one cell says about the behaviour asked for."""

    GOOD = "good"
    BAD = "bad"
    SKIP = "skip"  #: cannot run here
    BROKEN = "broken"  #: no judgement was possible


class CaseResult(enum.StrEnum):
    """What a whole run says."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    SKIPPED = "skipped"
    BROKEN = "broken"


class Role(enum.StrEnum):
    """What a cell is for in its case."""

    FAILING = "failing"  #: shows the bug
    CONTROL = "control"  #: shows that the bed can tell: the same question with the other answer
    EXTRA = "extra"  #: a neighbour or a remedy; the case stands without it


class Because(JsonValue):
    """A finding that a verdict must rest on: the bed's own subject, and a pattern found in what was observed."""

    subject: str = Field(min_length=1, description="the finding's own")
    observed: str = Field(min_length=1, description="a regular expression, searched for")
    since: VersionRule | None = Field(default=None, description="from which kernel or QEMU on it is to be seen")
    until: VersionRule | None = Field(default=None, description="from which kernel or QEMU on it no longer is")

    @field_validator("observed")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        return value

    def holds(self, **versions: str) -> bool:
        """Return whether it is to be seen on a kernel (`kernel`) and a QEMU (`qemu`) of these versions."""
        return not any(outside(self.since, self.until, axis, versions[axis]) for axis in AXES if axis in versions)

    def fits(self, finding: Finding) -> bool:
        """Return whether a finding is the one."""
        return finding.subject == self.subject and re.search(self.observed, finding.observed) is not None


class Cell(Setup):
    """Everything one trial depends on: a setup, and the question asked of its guest."""

    scenario: str
    options: dict[str, Any] = Field(default_factory=dict, description="scenario options given")
    since: VersionRule | None = Field(default=None, description="versions from which the documented answer holds")
    until: VersionRule | None = Field(default=None, description="versions from which it no longer holds")
    start: Literal["auto", "fresh"] = Field(default="auto", description="fresh: boot, never from a saved state")
    time: Literal["auto", "real", "warped"] = Field(default="auto", description="how the guest's idle time passes")
    expected: Verdict | None = Field(default=None, description="the verdict the case documents")
    expected_outcome: str = Field(default="", description="and the outcome; empty: any with that verdict")
    because: tuple[Because, ...] = Field(default=(), description="the findings it must rest on")
    role: Role = Role.EXTRA

    @classmethod
    def of(cls, setup: Setup, scenario: str, **question: Any) -> Cell:
        """Return the cell that asks a scenario of a setup."""
        return cls(**setup.fields(), scenario=scenario, **question)

    @property
    def setup(self) -> Setup:
        """Return the cell without its question."""
        return Setup(**self.fields())

    @property
    def id(self) -> str:
        """Return a readable name, the same on every run; unique together with its place in the case."""
        return f"{given_text(self.scenario, self.options)} {setup_text(self)}"


class Finding(JsonValue):
    """One observation: what was expected, what was seen, and the line or event it rests on."""

    subject: str
    expected: str
    observed: str
    evidence: str = Field(min_length=1, description="`kernel.log:LINE`, `qmp.jsonl:LINE` or another file of the rundir")


def standing_findings(blocked: BlockedError) -> list[Finding]:
    """Return where a process that makes no progress is, and the other processes that make none."""
    return [
        Finding(
            subject=each.task,
            expected="not to hold what the first waits for" if number else "to make progress",
            observed=(f"{each.holds}: " if each.holds else "") + (" < ".join(each.stack) or "not in the kernel"),
            evidence=each.evidence,
        )
        for number, each in enumerate(blocked.standing)
    ]


class Judgement(JsonValue):
    """What a scenario returns."""

    verdict: Verdict
    outcome: str = Field(description="what the guest did, in one word: deleted, ignored, present, …")
    reason: str
    findings: tuple[Finding, ...] = Field(min_length=1)
    guest_seconds: float | None = Field(default=None, description="guest time that the answer, or its lack, took")


class Outcome(JsonValue):
    """The result of one cell."""

    id: str
    scenario: str
    options: dict[str, Any] = Field(default_factory=dict, description="every option of the scenario")
    machine: str
    machine_type: str
    parameters: dict[str, Any]
    cmdline: str
    first: str = Field(default="", description="the guest command that prepared the starting state")
    kernel_cmdline: str = Field(description="/proc/cmdline of the guest; empty if it never answered")
    image: str
    whole: str = Field(default="", description="when the disk's own user space counts as up, if it ran")
    user_space: str = Field(default="", description="what ran in the guest once it was up: os-release, init, its state")
    kernel: str
    qemu: str = Field(description="the binary and the version it reports; for a skipped cell, what was requested")
    cpu: str
    accel: str
    accel_reason: str = Field(default="", description="why this accelerator was chosen")
    start: Literal["fresh", "warm"] = "fresh"
    note: str = Field(default="", description="why a saved state or warped time was given up, if it was")
    time: Literal["real", "warped"] = "real"
    boot: Literal["pvh", "bzimage", "efi", "loader"] = Field(default="pvh", description="how the kernel was started")
    verdict: Verdict
    outcome: str
    expected: Verdict | None
    expected_outcome: str = Field(default="", description="the outcome the case documents; empty: any")
    because: tuple[Because, ...] = Field(default=(), description="the findings that the documented verdict rests on")
    role: Role
    reason: str
    modelled: str = Field(
        default="", description="what a model made the machine do; empty if QEMU's behaviour is unchanged"
    )
    hint: str | None = Field(default=None, description="how to fix a broken or skipped cell")
    findings: tuple[Finding, ...]
    guest_seconds: float | None = Field(
        description="guest time from the request to its answer, or to the deadline if there was none; null where "
        "nothing was waited for"
    )
    wall_seconds: float
    rundir: str

    @property
    def as_expected(self) -> bool:
        """Return whether the cell came out as documented, or good where nothing is documented."""
        return not self.disagreement

    @property
    def disagreement(self) -> str:
        """Return how the cell differs from what is documented; empty if it does not."""
        expected = self.expected or Verdict.GOOD
        if self.verdict is not expected:
            return f"{self.verdict} ({self.outcome}) instead of {self._documented}"
        if self.expected_outcome and self.outcome != self.expected_outcome:
            return f"{self.verdict} as documented, but {self.outcome} instead of {self.expected_outcome}: {self.reason}"
        for wanted in self.because:
            if not any(map(wanted.fits, self.findings)):
                return f"{self.verdict} as documented, but not because of {self._missing(wanted)}"
        return ""

    @property
    def _documented(self) -> str:
        outcome = f" ({self.expected_outcome})" if self.expected_outcome else ""
        return f"{self.expected or Verdict.GOOD}{outcome}"

    def _missing(self, wanted: Because) -> str:
        observed = [finding.observed for finding in self.findings if finding.subject == wanted.subject]
        return f"{wanted.subject} ~ {wanted.observed}: observed {'; '.join(observed) or 'nothing of it'}"


class RunReport(JsonValue):
    """What `testbed run --json` writes, one for each case or list of scenarios."""

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema", serialization_alias="schema")
    case: str | None
    result: CaseResult
    cells: tuple[Outcome, ...]

"""Comparison: what differs between the columns of `testbed compare`.

These pydantic models are the JSON of `testbed compare --json`.
"""

from __future__ import annotations

from pydantic import Field

from testbed.model.json_value import JsonValue
from testbed.model.outcome import SCHEMA_VERSION, Outcome, Verdict
from testbed.model.setup import Setup

#: kinds of difference beside those of facts
VERDICT, LATENCY, DIVERGENCE = "verdict", "latency", "divergence"


class Column(Setup):
    """What is the same for every scenario."""

    label: str = Field(description="what tells it from the other columns")

    @classmethod
    def of(cls, setup: Setup, label: str) -> Column:
        """Return the column of a setup."""
        return cls(**setup.fields(), label=label)


class Group(JsonValue):
    """Neighbouring columns in which a scenario came out the same."""

    scenario: str
    columns: tuple[str, ...] = Field(min_length=1)
    verdict: Verdict
    outcome: str
    reason: str = Field(description="of its first column")
    guest_seconds: float | None = Field(description="of its first column")


class Difference(JsonValue):
    """One thing that is not the same in two columns."""

    scenario: str
    kind: str = Field(description="verdict, latency, divergence, or a fact's kind")
    subject: str
    aspect: str = ""
    values: dict[str, str | None] = Field(description="by column; null where there is no such thing")
    evidence: dict[str, str] = Field(description="by column: a line of a file in the rundir of its cell")


class Comparison(JsonValue):
    """What `testbed compare --json` writes; the cells are those of `testbed run --json`, scenario by scenario."""

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema", serialization_alias="schema")
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    cells: tuple[Outcome, ...]
    differences: tuple[Difference, ...]

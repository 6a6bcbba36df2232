"""What a bisect found: the JSON of `testbed bisect --json`. `testbed schema bisect` prints its schema."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.model.json_value import JsonValue

SCHEMA_VERSION = 1

Over = Literal["cmdline", "cpu", "parameters", "devices", "machine"]


class BisectTrial(JsonValue):
    """One trial of a subset of the elements."""

    number: int = Field(description="from 1, in the order they were started")
    round: int = Field(description="from 1; trials of one round ran at the same time")
    attempt: int = Field(description="from 1; more with --repeat")
    question: str = Field(description="why it was run: all, none, cut, edge, only, without, rest")
    elements: tuple[str, ...] = Field(description="the elements it had")
    cmdline: str
    answer: Literal["good", "bad", "unresolved"]
    outcome: str = Field(description="the cell's outcome in one word; `refused` if it could not be started")
    reason: str
    cached: bool = Field(description="run before this bisect was resumed")
    wall_seconds: float = Field(description="of the boot, even if it ran before the bisect was resumed")
    rundir: str


class Change(JsonValue):
    """One fact about the guest that the set changes."""

    subject: str
    with_set: str = Field(description="what was seen with only the set")
    without: str = Field(description="and without it")
    evidence: tuple[str, ...] = Field(description="the places both rest on, the first in the rundir of the first")


class BisectSet(JsonValue):
    """Elements that turn the verdict together."""

    elements: tuple[str, ...]
    proven: bool = Field(description="they alone turn the verdict, and it does not turn without any one of them")
    enough: bool = Field(description="they alone turn the verdict")
    unsettled: tuple[str, ...] = Field(description="members that may or may not be needed")
    command: str = Field(description="a command that shows it with them alone")
    reason: str = Field(description="the reason of that trial's verdict")
    why: tuple[str, ...] = Field(description="what the elements are known to do")
    compared: str = Field(description="the member that the trial compared in `changes` left out")
    changes: tuple[Change, ...] = Field(description="what the set changed in the guest's evidence")


class BisectAside(JsonValue):
    """An element that was not tried, or only to be set aside."""

    element: str
    reason: str


class BisectDisagreement(JsonValue):
    """A subset whose repeated trials did not all say the same."""

    elements: tuple[str, ...]
    answers: tuple[str, ...]


class BisectReport(JsonValue):
    """What `testbed bisect --json` writes."""

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema", serialization_alias="schema")
    scenario: str
    machine: str
    over: Over
    goal: Literal["culprit", "remedy"]
    elements: tuple[str, ...]
    proven: bool = Field(description="every set is proven, and nothing else turns the verdict")
    modelled: str = Field(
        description="what a model made the machines do; if not empty, the answer follows from the model's definition"
    )
    culprits: tuple[str, ...] = Field(description="the members of all sets; with the goal remedy these are remedies")
    sets: tuple[BisectSet, ...]
    remedy: str | None = Field(
        description="the command line (over others than cmdline: the options of `testbed run`) that was shown good"
    )
    aside: tuple[BisectAside, ...]
    candidates: tuple[str, ...] = Field(description="elements that could not be settled")
    incomplete: str = Field(description="why something was not settled; empty if all is proven")
    disagreements: tuple[BisectDisagreement, ...]
    boots: int = Field(description="guests booted now; trials made before the bisect was resumed are not among them")
    rounds: int
    seconds: float
    notes: tuple[str, ...]
    trials: tuple[BisectTrial, ...]

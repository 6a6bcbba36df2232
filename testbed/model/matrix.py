"""What a matrix gave: the JSON of `testbed matrix --json`, and one line of it for each run of a cell."""

from __future__ import annotations

from pydantic import Field

from testbed.model.json_value import JsonValue
from testbed.model.outcome import Outcome, Verdict  # noqa: TC001 (pydantic reads them)

SCHEMA_VERSION = 1


class MatrixRow(JsonValue):
    """A cell's position on the axes."""

    axes: dict[str, str] = Field(description="the value on every axis, as it was given; what was not given is empty")
    attempt: int = Field(default=1, ge=1, description="from 1; more with repeat")
    unstable: str = Field(default="", description="why the verdict is not judged; empty if it is")


class MatrixRun(JsonValue):
    """One line of results.jsonl: a run of a cell."""

    index: int = Field(ge=0, description="its position among all runs of the matrix")
    row: MatrixRow
    outcome: Outcome


class MatrixReport(JsonValue):
    """What `testbed matrix --json` writes: `rows` and `cells` belong together, one of each for a run."""

    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema", serialization_alias="schema")
    title: str
    axes: dict[str, list[str]] = Field(description="the values on each axis, in order")
    complete: bool = Field(description="false: the run was interrupted, some cells are missing")
    rows: list[MatrixRow]
    cells: list[Outcome]


class CellChange(JsonValue):
    """A cell whose verdict is not what it was."""

    axes: dict[str, str]
    before: Verdict
    now: Verdict
    regression: bool
    unstable: str
    reason: str = Field(description="of the verdict now")


class MatrixComparison(JsonValue):
    """A matrix against an earlier one, cells matched by their axes."""

    changed: list[CellChange]
    new: list[dict[str, str]] = Field(description="axes of cells that the baseline lacks")
    new_bad: list[dict[str, str]] = Field(description="those of the new whose verdict is not the expected one")
    gone: list[dict[str, str]] = Field(description="axes of cells that only the baseline has")
    same: int = Field(description="number of cells whose verdict is unchanged")

    @property
    def regressions(self) -> list[CellChange]:
        """Return the regressions."""
        return [each for each in self.changed if each.regression]

    @property
    def passes(self) -> bool:
        """Return whether no verdict got worse and every new one is as expected."""
        return not (self.regressions or self.new_bad)

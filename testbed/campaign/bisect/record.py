"""The record of a bisect in its rundir: what was asked, and every trial's outcome as it comes, so that it can go on.

request.json    what is searched for and among what, as `testbed bisect` was asked
trials.jsonl    a sealed line for each good or bad trial: its cell, the attempt, the outcome
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from testbed.campaign.record.sealed_lines import SealedLines
from testbed.model.bisect import Over  # noqa: TC001 (pydantic reads it)
from testbed.model.errors import InputError
from testbed.model.outcome import Cell, Outcome, Verdict

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

REQUEST, TRIALS = "request.json", "trials.jsonl"
#: of a cell, what says nothing about how it is run
_NOT_RUN = {"expected", "expected_outcome", "because", "role"}


class BisectRequest(BaseModel):
    """What was asked of a bisect."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    #: the cell with every element; over two machines, those of both
    cells: tuple[Cell, ...]
    goal: Literal["culprit", "remedy"] = "culprit"
    over: Over = "cmdline"
    candidates: tuple[str, ...] = ()
    repeat: int = 1
    one_at_a_time: bool = False

    def write(self, folder: Path) -> None:
        """Write it into the rundir."""
        (folder / REQUEST).write_text(self.model_dump_json(indent=1) + "\n")

    @staticmethod
    def withdraw(folder: Path) -> None:
        """Remove it from the rundir of a bisect that cannot be: there is nothing to resume."""
        (folder / REQUEST).unlink()

    @classmethod
    def read(cls, folder: Path) -> BisectRequest:
        """Read what a rundir's bisect was asked; raise InputError if it is not the rundir of one."""
        try:
            return cls.model_validate_json((folder / REQUEST).read_bytes())
        except OSError as error:
            hint = "only a bisect can be resumed: name the rundir it printed"
            raise InputError(f"rundir {folder}: {REQUEST}: {error.strerror}", hint=hint) from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise InputError(f"rundir {folder}: {REQUEST}: {where}: {first['msg']}") from None


class TrialRecord:
    """The trials of one rundir, as long as it is entered."""

    def __init__(self, folder: Path) -> None:
        self._lines = SealedLines(folder / TRIALS)
        self._outcomes: dict[str, Outcome] = {}

    def __enter__(self) -> Self:
        self._lines.__enter__()
        for _, value in self._lines.all():
            outcome = _outcome(value)
            if outcome is not None:
                self._outcomes[str(value.get("key"))] = outcome
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.__exit__(kind, error, trace)

    def find(self, cell: Cell, attempt: int) -> Outcome | None:
        """Return the outcome of an attempt at a cell; None if it was not made, or was no judgement."""
        return self._outcomes.get(trial_key(cell, attempt))

    def keep(self, cell: Cell, attempt: int, outcome: Outcome) -> None:
        """Keep an outcome that is a judgement: what was broken or skipped may be otherwise the next time."""
        if outcome.verdict in (Verdict.GOOD, Verdict.BAD):
            self._lines.add({"key": trial_key(cell, attempt), "outcome": outcome.model_dump(mode="json")})


def trial_key(cell: Cell, attempt: int) -> str:
    """Return what names an attempt at a cell."""
    return json.dumps([cell.model_dump(mode="json", exclude=_NOT_RUN), attempt], sort_keys=True)


def _outcome(value: dict[str, Any]) -> Outcome | None:
    """Return the outcome of a line; one that is damaged or of another version counts as none."""
    try:
        return Outcome.model_validate(value.get("outcome"))
    except ValidationError:
        return None

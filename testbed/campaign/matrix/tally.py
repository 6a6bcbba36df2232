"""The tally of a matrix: how often each verdict was given, and what it means for the exit code."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.campaign.cell.judge import REJECTED
from testbed.campaign.run import worst_exit
from testbed.model.outcome import Verdict

if TYPE_CHECKING:
    from testbed.model.outcome import Outcome

_EXIT = {Verdict.BAD: 1, Verdict.SKIP: 125, Verdict.BROKEN: 128}


@dataclass(kw_only=True)
class Tally:
    """What has been counted so far."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    unstable: int = 0  #: runs whose verdict decides nothing
    unexpected: int = 0  #: runs that gave another verdict than a rule says
    boots: int = 0  #: runs that booted their guest, not resumed it
    code: int = 0  #: exit code

    def count(self, outcome: Outcome, *, unstable: bool) -> None:
        """Count a run."""
        self.verdicts[outcome.verdict] += 1
        self.boots += outcome.start == "fresh" and outcome.wall_seconds > 0
        if unstable:
            self.unstable += 1
            return
        self.unexpected += contradicts(outcome)
        self.code = worst_exit([self.code, _exit(outcome)])

    @property
    def runs(self) -> int:
        """Return how many runs were counted."""
        return self.verdicts.total()


def is_fine(outcome: Outcome) -> bool:
    """Return whether a verdict contradicts nothing: it is the expected one, good where none is, or a skip."""
    return outcome.as_expected or outcome.verdict is Verdict.SKIP


def contradicts(outcome: Outcome) -> bool:
    """Return whether a rule says another verdict; a skip contradicts none."""
    return outcome.expected is not None and not is_fine(outcome)


def _exit(outcome: Outcome) -> int:
    if outcome.outcome == REJECTED:
        return 2
    if outcome.as_expected:
        return 0
    # a good one where bad is expected differs as much as a bad one
    return _EXIT.get(outcome.verdict, 1)

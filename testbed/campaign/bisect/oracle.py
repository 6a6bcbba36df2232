"""The oracle: runs the cell of a subset, or finds that it was run, and says what its outcome means for a search."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from testbed.campaign.bisect.record import trial_key
from testbed.campaign.bisect.result import Answer
from testbed.campaign.cell.judge import REJECTED, TREE_OUTCOMES
from testbed.campaign.cell.run import run_cell
from testbed.campaign.prepared import PreparedCell, prepare_cell
from testbed.campaign.run import folder_name
from testbed.guest.facts import save_facts
from testbed.host.slots import core_count, guest_slot
from testbed.model.errors import BrokenError, InputError, UnsupportedError
from testbed.model.outcome import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.campaign.bisect.elements import Elements
    from testbed.campaign.bisect.record import TrialRecord
    from testbed.campaign.bisect.result import Subset
    from testbed.host.host import Host
    from testbed.model.outcome import Cell, Outcome

#: outcomes of a broken trial that its elements brought about; whatever else breaks one is the bed's own fault
_UNRESOLVED = TREE_OUTCOMES | {REJECTED, "qemu-crashed"}
#: those that more memory may fix
_STARVED = frozenset({"no-boot", "crashed"})
_MEMORY = "memory"
#: a subset of so few elements may prove a set, and its guest is looked at closely; larger ones are on the way there
_PROOF = 3


class OracleObserver(Protocol):
    """An observer of the trials' progress."""

    def note(self, text: str) -> None:
        """Note what a person should know."""

    def phase(self, subset: Subset, attempt: int, phase: str) -> None:
        """Note that a trial entered a phase."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One trial that was made."""

    cell: Cell
    answer: Answer
    outcome: Outcome | None  #: None if the cell could not be started
    reason: str
    cached: bool = False


class MoreMemoryError(Exception):
    """Say that the guest with every element reaches its stimulus only with more memory."""

    def __init__(self, mib: int) -> None:
        super().__init__(f"{mib} MiB")
        self.mib = mib


class Oracle:
    """Answers for subsets of elements, with real guests."""

    def __init__(
        self, elements: Elements, *, host: Host, rundir: Path, record: TrialRecord, observer: OracleObserver
    ) -> None:
        self.tried: dict[tuple[Subset, int], Tried] = {}
        self.boots = 0
        self.memory: int | None = None  #: MiB that every guest gets; None: as its cell says
        self._elements = elements
        self._host = host
        self._rundir = rundir
        self._record = record
        self._made: dict[str, Outcome] = {}
        self._observer = observer
        self._started = 0

    async def __call__(self, subset: Subset, attempt: int) -> Answer:
        """Return the answer of one attempt at a subset.

        Raises:
            MoreMemoryError: all elements together need more memory; it is to be set, and the search begun again.
            UnsupportedError, InputError: an end cannot be run here.
            BrokenError: the bed's own fault; no answer.
        """
        cell = self.cell(subset)
        try:
            tried = await self._try(cell, subset, attempt)
        except InputError as error:
            if self._is_end(subset):
                raise
            tried = Tried(cell=cell, answer=Answer.UNRESOLVED, outcome=None, reason=error.message)
        await self._feed(tried, subset, attempt)
        self.tried[subset, attempt] = tried
        return tried.answer

    def cell(self, subset: Subset) -> Cell:
        """Return the cell of a subset: a boot of its own, since no other trial starts as it does."""
        cell = self._elements.cell(subset)
        more = {"parameters": {**cell.parameters, _MEMORY: self.memory}} if self.memory else {}
        return cell.model_copy(update={"start": "fresh", **more})

    def _is_end(self, subset: Subset) -> bool:
        return subset in (frozenset(), self._elements.everything)

    async def _try(self, cell: Cell, subset: Subset, attempt: int) -> Tried:
        ready = await asyncio.to_thread(prepare_cell, cell, progress=self._observer.note)
        recorded = self._record.find(cell, attempt)
        key = trial_key(cell, attempt)
        if recorded is None and key not in self._made:
            self._made[key] = await self._boot(ready, subset, attempt)
            self._record.keep(cell, attempt, self._made[key])
        outcome = recorded or self._made[key]
        answer = self._read(outcome, subset)
        return Tried(cell=cell, answer=answer, outcome=outcome, reason=outcome.reason, cached=recorded is not None)

    async def _boot(self, ready: PreparedCell, subset: Subset, attempt: int) -> Outcome:
        tell = partial(self._observer.phase, subset, attempt)
        number, self._started = self._started, self._started + 1
        async with guest_slot(count=core_count(), on_wait=partial(tell, "waiting for a guest slot")):
            self.boots += 1
            folder = self._rundir / folder_name(number, ready.cell)
            look = save_facts if len(subset) <= _PROOF else None
            return await run_cell(ready, host=self._host, rundir=folder, progress=tell, on_ready=look)

    def _read(self, outcome: Outcome, subset: Subset) -> Answer:
        """Return what an outcome says; raise where it says nothing and is no trial's fault."""
        if outcome.verdict in (Verdict.GOOD, Verdict.BAD):
            return Answer.of(outcome.verdict)
        if self._is_end(subset) and outcome.verdict is Verdict.SKIP:
            raise UnsupportedError(f"{outcome.id}: {outcome.reason}", hint=outcome.hint)
        if self._is_end(subset) and outcome.outcome == REJECTED:
            raise InputError(f"{outcome.id}: {outcome.reason}", hint=outcome.hint)
        if outcome.verdict is Verdict.SKIP or outcome.outcome in _UNRESOLVED:
            return Answer.UNRESOLVED
        hint = f"its logs are in {outcome.rundir}; continue from here: testbed bisect --resume {self._rundir}"
        raise BrokenError(f"{outcome.id}: {outcome.reason}", hint=hint)

    async def _feed(self, tried: Tried, subset: Subset, attempt: int) -> None:
        """Where all elements together do not boot, try twice the memory; raise MoreMemoryError if that helps."""
        outcome = tried.outcome
        if outcome is None or tried.answer is not Answer.UNRESOLVED or subset != self._elements.everything:
            return
        mib = outcome.parameters.get(_MEMORY)
        if self.memory or outcome.outcome not in _STARVED or not isinstance(mib, int):
            return
        self._observer.note(f"{self._elements.describe(subset)}: {outcome.reason}; trying with {2 * mib} MiB of memory")
        richer = tried.cell.model_copy(update={"parameters": {**tried.cell.parameters, _MEMORY: 2 * mib}})
        if (await self._try(richer, subset, attempt)).answer is not Answer.UNRESOLVED:
            self.memory = 2 * mib
            raise MoreMemoryError(2 * mib)

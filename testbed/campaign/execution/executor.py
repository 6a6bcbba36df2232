"""Executor: who runs the cells of a campaign. Above it nothing knows whether that is this host or a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from testbed.campaign.execution.job_queue import JobQueue
    from testbed.model.outcome import Cell, Outcome

    #: names the rundir of a cell by its place in the list
    Place = Callable[[int], Path]


class Observer(Protocol):
    """An observer of the cells' progress; cells are named by their index in the list."""

    def preparing(self, message: str) -> None:
        """Note what is done before any cell starts."""

    def phase(self, index: int, phase: str) -> None:
        """Note that a cell entered a phase."""

    def done(self, index: int, outcome: Outcome) -> None:
        """Note that a cell has its outcome."""


class Executor(Protocol):
    """Runs cells, as long as it is entered."""

    async def __aenter__(self) -> Self:
        """Get hold of what it runs them on; raise InputError if that is not available."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""

    @property
    def guests(self) -> int:
        """Return how many guests run well at once."""

    async def start_of(self, cell: Cell, *, progress: Callable[[str], None]) -> str | None:
        """Prepare a cell as far as this can be done beforehand; return the key of its start, None if it shares none.

        Raises:
            LackingError: nobody has what it needs.
            InputError: what it names is wrong.
        """

    def is_saved(self, start: str) -> bool:
        """Return whether a guest with this start is saved: its runs need no boot."""

    async def execute(self, cells: Sequence[Cell], queue: JobQueue, *, place: Place, observer: Observer) -> None:
        """Run every job of the queue, and tell the observer of each outcome once."""

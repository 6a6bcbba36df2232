"""Grid: cells with positions on axes, whatever these are, to be run as one campaign."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from testbed.model.outcome import Cell

if TYPE_CHECKING:
    from testbed.model.matrix import MatrixRow


class Grid(Sequence[Cell]):
    """Cells, each with its place on the axes; a repeat of one is a cell of its own."""

    @property
    @abstractmethod
    def title(self) -> str:
        """Return what it is called; empty if it is not."""

    @property
    @abstractmethod
    def axis_labels(self) -> dict[str, list[str]]:
        """Return the values on each axis, in order."""

    @abstractmethod
    def row(self, index: int) -> MatrixRow:
        """Return a cell's position on the axes."""

"""Results: the runs of a matrix on the disk, one sealed line each as it ends; in memory no more than a number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from testbed.campaign.record.sealed_lines import SealedLines, line_value
from testbed.model.errors import InputError
from testbed.model.matrix import MatrixRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

RESULTS = "results.jsonl"


class Results:
    """The results of one rundir, for reading and appending."""

    def __init__(self, folder: Path) -> None:
        self._lines = SealedLines(folder / RESULTS)
        self._offsets: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._lines.__enter__()
        for offset, value in self._lines.all():
            index = value.get("index")
            if isinstance(index, int):
                self._offsets.setdefault(index, offset)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.__exit__(kind, error, trace)

    def __contains__(self, index: int) -> bool:
        return index in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, run: MatrixRun) -> None:
        """Record a run; one that is already recorded does not count again."""
        if run.index not in self:
            self._offsets[run.index] = self._lines.add(run.model_dump(mode="json"))

    def runs(self) -> Iterator[MatrixRun]:
        """Yield every run in the order of the matrix; raise InputError for one that is not this version's."""
        for index in sorted(self._offsets):
            yield _run(self._lines.at(self._offsets[index]), self._lines.path)


def recorded_runs(folder: Path) -> list[MatrixRun]:
    """Return the runs that a rundir has so far, in the order of the matrix, without changing anything in it."""
    found: dict[int, dict[str, Any]] = {}
    for line in _lines(folder / RESULTS):
        index = line.get("index")
        if isinstance(index, int):
            found.setdefault(index, line)
    return [_run(found[index], folder / RESULTS) for index in sorted(found)]


def expected_seconds(folders: Iterable[Path]) -> dict[str, float]:
    """Return how long cells took in earlier matrices, by their id; the last of the folders counts most."""
    seconds: dict[str, float] = {}
    for folder in folders:
        for line in _lines(folder / RESULTS):
            outcome = line.get("outcome", {})
            if not isinstance(outcome, dict) or outcome.get("start") != "warm":
                continue
            wall = outcome.get("wall_seconds")
            if isinstance(wall, int | float):
                seconds[str(outcome.get("id"))] = float(wall)
    return seconds


def _run(value: dict[str, Any], path: Path) -> MatrixRun:
    try:
        return MatrixRun.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: does not fit this test bed's schema: {where}: {first['msg']}",
            hint="read it with the version that wrote it",
        ) from None


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            yield from map(line_value, file)
    except OSError:
        return

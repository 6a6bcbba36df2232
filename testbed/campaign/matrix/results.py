"""Results: the runs of a matrix on the disk, one JSON line each as it ends; of a run no more than a number is kept.

A line that a killed process left half written is cut off, and its cell runs again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pydantic import ValidationError

from testbed.model.errors import BedError, InputError
from testbed.model.json_reader import parse_json
from testbed.model.matrix import MatrixRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

RESULTS = "results.jsonl"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A run on the disk."""

    index: int
    offset: int


class Results:
    """The results of one rundir, for reading and appending."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS
        self._offsets: dict[int, int] = {}

    def __enter__(self) -> Self:
        self.path.touch()
        self._file = self.path.open("r+b")
        end = 0
        for line in _whole_lines(self.path):
            self._offsets.setdefault(line.index, line.offset)
            end = self._end_of(line)
        self._file.truncate(end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, index: int) -> bool:
        return index in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, run: MatrixRun) -> None:
        """Write a run down; one that is there already does not count again."""
        if run.index in self:
            return
        try:
            offset = self._file.seek(0, 2)
            self._file.write(run.model_dump_json().encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise BedError(f"writing {self.path}: {error.strerror}", hint="the run can go on: --resume") from None
        self._offsets[run.index] = offset

    def runs(self) -> Iterator[MatrixRun]:
        """Yield every run in the order of the matrix; raise InputError for one that is not this version's."""
        for index in sorted(self._offsets):
            self._file.seek(self._offsets[index])
            yield _run(self._file.readline(), self.path)

    def _end_of(self, line: Line) -> int:
        self._file.seek(line.offset)
        self._file.readline()
        return self._file.tell()


def expected_seconds(folders: Iterable[Path]) -> dict[str, float]:
    """Return how long cells took in earlier matrices, by their id; the last of the folders counts most."""
    seconds: dict[str, float] = {}
    for folder in folders:
        for line in _lines(folder / RESULTS):
            outcome = line.get("outcome", {})
            if isinstance(outcome, dict) and outcome.get("start") == "warm":
                seconds[str(outcome.get("id"))] = float(outcome.get("wall_seconds", 0.0))
    return seconds


def _run(line: bytes, path: Path) -> MatrixRun:
    try:
        return MatrixRun.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: does not fit this test bed's schema: {where}: {first['msg']}",
            hint="read it with the version that wrote it",
        ) from None


def _whole_lines(path: Path) -> Iterator[Line]:
    """Yield the lines up to the first that is not whole."""
    offset = 0
    with path.open("rb") as file:
        for text in file:
            index = _value(text).get("index")
            if not text.endswith(b"\n") or not isinstance(index, int):
                return
            yield Line(index=index, offset=offset)
            offset += len(text)


def _lines(path: Path) -> Iterator[dict[str, object]]:
    try:
        with path.open("rb") as file:
            yield from map(_value, file)
    except OSError:
        return


def _value(text: bytes) -> dict[str, object]:
    try:
        value = parse_json(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

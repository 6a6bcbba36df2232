"""Results: the runs of a matrix on the disk, one JSON line each as it ends; of a run no more than a number is kept.

A line that a killed process left half written is cut off, one that is damaged does not count: their cells run again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from pydantic import ValidationError

from testbed.model.errors import BedError, InputError
from testbed.model.json_reader import parse_json
from testbed.model.matrix import MatrixRun
from testbed.model.seal import SUM, sealed, unsealed

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
        for line in _whole_lines(self.path):
            self._offsets.setdefault(line.index, line.offset)
        self._cut()
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
            self._file.write(json.dumps(sealed(run.model_dump(mode="json"))).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise BedError(f"writing {self.path}: {error.strerror}", hint="the run can go on: --resume") from None
        self._offsets[run.index] = offset

    def runs(self) -> Iterator[MatrixRun]:
        """Yield every run in the order of the matrix; raise InputError for one that is not this version's."""
        for index in sorted(self._offsets):
            self._file.seek(self._offsets[index])
            yield _run(self._file.readline(), self.path)

    def _cut(self) -> None:
        """Cut off a last line that has no end: the next one would be written onto it."""
        self._file.seek(0)
        end = sum(len(line) for line in self._file if line.endswith(b"\n"))
        self._file.truncate(end)


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


def _run(line: bytes, path: Path) -> MatrixRun:
    try:
        return MatrixRun.model_validate(_value(line))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: does not fit this test bed's schema: {where}: {first['msg']}",
            hint="read it with the version that wrote it",
        ) from None


def _whole_lines(path: Path) -> Iterator[Line]:
    """Yield the lines that are whole and undamaged."""
    offset = 0
    with path.open("rb") as file:
        for text in file:
            index = _value(text).get("index")
            if text.endswith(b"\n") and isinstance(index, int):
                yield Line(index=index, offset=offset)
            offset += len(text)


def _lines(path: Path) -> Iterator[dict[str, object]]:
    try:
        with path.open("rb") as file:
            yield from map(_value, file)
    except OSError:
        return


def _value(text: bytes) -> dict[str, object]:
    """Return what a line says; nothing if it is damaged. Lines of versions that did not seal them have no checksum."""
    try:
        value = parse_json(text)
        if isinstance(value, dict) and SUM not in value:
            return value
        return unsealed(value)
    except ValueError:
        return {}

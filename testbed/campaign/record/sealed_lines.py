"""Sealed lines: a file of JSON objects, one a line, that is only ever appended to; what a killed run left of it counts.

A half-written line is cut off and a damaged one does not count: its work is done again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from testbed.model.errors import BedError
from testbed.model.json_reader import SUM, parse_json, sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType


class SealedLines:
    """One such file, for reading and appending."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        self.path.touch()
        self._file = self.path.open("r+b")
        self._cut()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, value: dict[str, Any]) -> int:
        """Append an object and return its offset; raise BedError if it cannot be written."""
        try:
            offset = self._file.seek(0, 2)
            self._file.write(json.dumps(sealed(value)).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise BedError(f"writing {self.path}: {error.strerror}", hint="the run can continue: --resume") from None
        return offset

    def at(self, offset: int) -> dict[str, Any]:
        """Return the object at an offset that `add` or `all` named."""
        self._file.seek(offset)
        return line_value(self._file.readline())

    def all(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield offset and object of every line that is whole; an empty object stands for a damaged one."""
        offset = 0
        with self.path.open("rb") as file:
            for line in file:
                yield offset, line_value(line)
                offset += len(line)

    def _cut(self) -> None:
        """Cut off a last line that has no end: the next one would be written onto it."""
        self._file.seek(0)
        end = sum(len(line) for line in self._file if line.endswith(b"\n"))
        self._file.truncate(end)


def line_value(line: bytes) -> dict[str, Any]:
    """Return what a line says; nothing if it is damaged. Lines of versions that did not seal them have no checksum."""
    try:
        value = parse_json(line)
        if isinstance(value, dict) and SUM not in value:
            return value
        return unsealed(value)
    except ValueError:
        return {}

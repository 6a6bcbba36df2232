"""A matrix for machines: its JSON, written piece by piece, since it may have a hundred thousand cells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pydantic import BaseModel

    from testbed.model.matrix import MatrixReport, MatrixRun


def write_matrix_json(head: MatrixReport, runs: Callable[[], Iterable[MatrixRun]], file: TextIO) -> None:
    """Write the report of a matrix; `head` is without rows and cells, `runs` gives them each time it is called."""
    fields = head.model_dump(mode="json", by_alias=True, exclude={"rows", "cells"})
    file.write("{\n")
    file.writelines(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in fields.items())
    _write_list("rows", (run.row for run in runs()), file)
    file.write(",\n")
    _write_list("cells", (run.outcome for run in runs()), file)
    file.write("\n}\n")


def _write_list(name: str, values: Iterable[BaseModel], file: TextIO) -> None:
    file.write(f" {json.dumps(name)}: [")
    for number, value in enumerate(values):
        file.write(",\n  " if number else "\n  ")
        file.write(value.model_dump_json(by_alias=True))
    file.write("\n ]")

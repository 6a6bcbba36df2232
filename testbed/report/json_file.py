"""Outcomes for machines: the JSON of a run, and its schema."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING

from testbed.model.catalog import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from testbed.model.bisect import BisectReport
    from testbed.model.comparison import Comparison
    from testbed.model.outcome import RunReport

#: what `--json` of a command writes: a module of the room `model`, and its class; a run needs but its own
_WRITTEN = {
    "run": ("outcome", "RunReport"),
    "compare": ("comparison", "Comparison"),
    "bisect": ("bisect", "BisectReport"),
    "matrix": ("matrix", "MatrixReport"),
    "atlas": ("atlas", "AtlasReport"),
}


def to_json(reports: Sequence[RunReport]) -> str:
    """Return one report as an object, several as a list."""
    values = [report.model_dump(mode="json", by_alias=True) for report in reports]
    return json.dumps(values[0] if len(values) == 1 else values, indent=1) + "\n"


def comparison_to_json(comparison: Comparison) -> str:
    """Return a comparison as an object."""
    return json.dumps(comparison.model_dump(mode="json", by_alias=True), indent=1) + "\n"


def bisect_json(report: BisectReport) -> str:
    """Return a bisect's report as an object."""
    return json.dumps(report.model_dump(mode="json", by_alias=True), indent=1) + "\n"


def schema(command: str = "run") -> str:
    """Return the JSON Schema of what a command writes with `--json`; raise InputError if it has none."""
    if command not in _WRITTEN:
        raise unknown("schema of", command, _WRITTEN)
    module, name = _WRITTEN[command]
    model: type[BaseModel] = getattr(importlib.import_module(f"testbed.model.{module}"), name)
    return json.dumps(model.model_json_schema(by_alias=True, mode="serialization"), indent=1) + "\n"

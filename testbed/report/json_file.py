"""Outcomes for machines: the JSON of a run, and its schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from testbed.model.outcome import RunReport

if TYPE_CHECKING:
    from collections.abc import Sequence


def to_json(reports: Sequence[RunReport]) -> str:
    """Return one report as an object, several as a list."""
    values = [report.model_dump(mode="json", by_alias=True) for report in reports]
    return json.dumps(values[0] if len(values) == 1 else values, indent=1) + "\n"


def schema() -> str:
    """Return the JSON Schema of one report."""
    return json.dumps(RunReport.model_json_schema(by_alias=True, mode="serialization"), indent=1) + "\n"

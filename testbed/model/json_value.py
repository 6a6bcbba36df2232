"""JsonValue: what the bed writes as JSON and reads again."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class JsonValue(BaseModel):
    """A frozen value whose JSON has every key of its schema."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        defer_build=True,
        # what is written is written whole: readers may rely on every key
        json_schema_serialization_defaults_required=True,
    )

"""The only JSON reader for what a file, a guest or a QEMU says, and the seal of what the bed itself keeps as JSON.

A sealed object carries a checksum of itself, so that a damaged one is not read as another. It is proof against damage,
not against an attacker, who could seal it too.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: the member that holds the sum
SUM = "crc32"


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text; raise ValueError for anything else, nesting without end included."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its checksum."""
    return {**value, SUM: _sum(value)}


def unsealed(value: object) -> dict[str, Any]:
    """Return a sealed object without its checksum; raise ValueError if it is not one, or is damaged."""
    if not isinstance(value, dict) or SUM not in value:
        raise ValueError("it is not sealed")
    rest = {key: each for key, each in value.items() if key != SUM}
    if _sum(rest) != value[SUM]:
        raise ValueError("it is damaged")
    return rest


def _sum(value: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"

"""Seal: a JSON object that carries a checksum of itself, so that a damaged one is not read as another.

It is proof against damage, not against an attacker, who could seal it too.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

#: the member that holds the sum
SUM = "crc32"


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its checksum."""
    return {**value, SUM: _sum(value)}


def unsealed(value: object) -> dict[str, Any]:
    """Return a sealed object without its checksum; raise ValueError if it is none, or is damaged."""
    if not isinstance(value, dict) or SUM not in value:
        raise ValueError("it is not sealed")
    rest = {key: each for key, each in value.items() if key != SUM}
    if _sum(rest) != value[SUM]:
        raise ValueError("it is damaged")
    return rest


def _sum(value: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"

"""One thing that a customer's files show, and the lines that show it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One thing that is shown."""

    text: str
    evidence: tuple[str, ...]
    suspicious: bool = False

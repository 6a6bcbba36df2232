"""One item of a check list: whether a host has what is needed, and the lines that show it."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Answer(enum.StrEnum):
    """Whether the host has it."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    IDLE = "not needed"  #: only some uses need it, and the files do not ask for them


@dataclass(frozen=True, kw_only=True)
class Check:
    """One item."""

    item: str
    answer: Answer
    why: str
    evidence: tuple[str, ...] = ()
    remedy: str = ""  #: what to do about a no, or what to give so that it is known

"""A rule: its id, what would satisfy it, where it comes from, and the function that checks it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testbed.lint.function import Function, Topology


class Severity(enum.StrEnum):
    """What a hit means."""

    ERROR = "error"
    NOTE = "note"  #: a fact: it may be as it should be


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One thing a rule found."""

    message: str
    at: int | None = None  #: offset of the register that says it
    mend: tuple[str, ...] = ()  #: what to do, where it depends on what was found


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What a rule would have to know and does not."""

    reason: str
    needs: str


Check: TypeAlias = "Callable[[Function, Topology], Iterator[Hit | Missing]]"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule and its check."""

    id: str
    severity: Severity
    satisfy: str  #: what would make it content; empty for a note
    source: str
    reads: int  #: bytes of configuration space it looks at: 64, 256 or 4096
    check: Check
    mend: str = ""  #: what to do, whatever was found
    words_do: bool = False  #: lspci's words tell it enough, without bytes


def error(
    rule_id: str, *, satisfy: str, source: str, reads: int = 256, mend: str = "", words_do: bool = False
) -> Callable[[Check], Rule]:
    """Make a check into a rule whose hits are errors."""

    def to_rule(check: Check) -> Rule:
        return Rule(
            id=rule_id,
            severity=Severity.ERROR,
            satisfy=satisfy,
            source=source,
            reads=reads,
            check=check,
            mend=mend,
            words_do=words_do,
        )

    return to_rule


def note(rule_id: str, *, source: str, reads: int = 256) -> Callable[[Check], Rule]:
    """Make a check into a rule whose hits are facts."""

    def to_rule(check: Check) -> Rule:
        return Rule(id=rule_id, severity=Severity.NOTE, satisfy="", source=source, reads=reads, check=check)

    return to_rule

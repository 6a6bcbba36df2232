"""Answer: what came of one line that was said to a machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from testbed.model.outcome import Finding


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a verb did, saw and has to say."""

    text: str = ""  #: what a prompt prints, lines without a final newline
    findings: tuple[Finding, ...] = ()  #: what was witnessed, each with its evidence
    outcome: str = ""  #: the action's own word: `present`, `deleted`, `ignored`, `refused`, …; empty if it has none
    value: Any = None  #: QMP's return value; of `sh` the shell's Result
    ok: bool = True  #: False: done, and not with the result one would want, such as a status that is not 0


def witnessed(head: str, findings: Iterable[Finding], *, outcome: str, ok: bool) -> Answer:
    """Return the answer of an action: a line that says what became of it, and one for each witness."""
    kept = tuple(findings)
    lines = [f"  {each.subject}: {each.observed} ({each.evidence})" for each in kept]
    return Answer(text="\n".join((head, *lines)), findings=kept, outcome=outcome, ok=ok)

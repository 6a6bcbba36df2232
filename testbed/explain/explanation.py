"""The whole answer to a customer's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.explain.contradiction import contradictions
from testbed.explain.control import controls
from testbed.explain.evidence import gather
from testbed.explain.observation import observations
from testbed.explain.passthrough import passthrough_steps
from testbed.explain.statement import Statement
from testbed.explain.step import Step, next_steps
from testbed.explain.suspect import Suspect, merged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from testbed.explain.evidence import Evidence
    from testbed.explain.holder import Control
    from testbed.explain.source import Part


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What the files show."""

    subject: tuple[Statement, ...]  #: what kernel on what machine with what command line
    control: tuple[Control, ...]
    contradictions: tuple[Statement, ...]
    observations: tuple[Statement, ...]
    suspects: tuple[Suspect, ...]
    steps: tuple[Step, ...]

    @property
    def is_suspicious(self) -> bool:
        """Return whether anything was found that should not be so."""
        statements = (*self.contradictions, *self.observations)
        return bool(self.suspects) or any(statement.suspicious for statement in statements)


def explain(parts: Sequence[Part]) -> Explanation:
    """Explain what files hold; raise InputError if two of them hold the same."""
    return explain_evidence(gather(parts))


def explain_evidence(evidence: Evidence) -> Explanation:
    """Explain what is known of a guest."""
    held = controls(evidence)
    suspects = merged(suspect for control in held for suspect in control.suspects)
    return Explanation(
        subject=tuple(_subject(evidence)),
        control=held,
        contradictions=contradictions(evidence, held),
        observations=observations(evidence, held, suspects),
        suspects=suspects,
        steps=(*passthrough_steps(evidence), *next_steps(evidence, held, suspects)),
    )


def _subject(evidence: Evidence) -> list[Statement]:
    statements = []
    if evidence.log is not None:
        named = {"Linux": evidence.log.version, "on": evidence.log.hardware}
        statements = [Statement(text=f"{name} {text}", evidence=(at,)) for name, (text, at) in named.items() if at]
    if evidence.without_acpi:
        text = "a machine without ACPI, or one whose ACPI Linux does not use: there is no _OSC to negotiate"
        statements.append(Statement(text=text, evidence=evidence.without_acpi))
    if evidence.cmdline is not None:
        text = f"command line: {evidence.cmdline.text or '(empty)'}"
        statements.append(Statement(text=text, evidence=(evidence.cmdline_at,)))
    return statements

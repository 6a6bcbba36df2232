"""What a lint found: errors, notes, and what could not be checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.lint.rule import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """One hit of one rule."""

    rule: str
    severity: Severity
    where: str  #: FILE:LINE, or FILE+OFFSET of a binary file
    function: str
    offset: int | None  #: of the register, in the configuration space
    message: str
    satisfy: str
    source: str
    mend: tuple[str, ...] = ()  #: what to do, a line each


@dataclass(frozen=True, kw_only=True)
class NotChecked:
    """A rule that could not be checked on a function."""

    rule: str
    where: str
    function: str
    reason: str
    needs: str


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A function of a text that cannot be judged, or only in part."""

    function: str
    where: str
    reason: str
    damaged: bool  #: False where the text just has no bytes of it


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything found in some functions."""

    functions: int = 0
    diagnostics: tuple[Diagnostic, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """Return what breaks a rule."""
        return tuple(each for each in self.diagnostics if each.severity is Severity.ERROR)

    @property
    def notes(self) -> tuple[Diagnostic, ...]:
        """Return the facts."""
        return tuple(each for each in self.diagnostics if each.severity is Severity.NOTE)


def joined(reports: Iterable[Report], *, skipped: Iterable[Skipped] = ()) -> Report:
    """Return several machines' reports as one, with what was skipped while they were read."""
    known = tuple(reports)
    return Report(
        functions=sum(each.functions for each in known),
        diagnostics=tuple(found for each in known for found in each.diagnostics),
        not_checked=tuple(found for each in known for found in each.not_checked),
        skipped=tuple(skipped),
    )

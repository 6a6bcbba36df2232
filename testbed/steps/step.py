"""Step: one thing that is done, waited for or expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import re

    from testbed.steps.condition import Condition


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the prompt's language."""

    where: str  #: `FILE:LINE`
    text: str
    stimulus: bool = False
    #: it must fail, and this must be found in what is said about it
    fails: re.Pattern[str] | None = None

    @property
    def subject(self) -> str:
        """Return what findings call it, after its place."""
        return self.text


@dataclass(frozen=True, kw_only=True)
class Wait:
    """A span of time, or a condition that must come to hold within it."""

    where: str
    condition: Condition | None
    seconds: float
    of_host: bool = False  #: they are the host's; else the guest's

    @property
    def subject(self) -> str:
        """Return what findings call it, after its place."""
        return f"wait {self.condition.key}" if self.condition else f"wait {self.span}"

    @property
    def span(self) -> str:
        """Return how long it takes at most."""
        return f"{self.seconds:g} s of the host's" if self.of_host else f"{self.seconds:g} s"


@dataclass(frozen=True, kw_only=True)
class Expect:
    """A condition that must hold now, or must not."""

    where: str
    condition: Condition
    wanted: bool = True

    @property
    def subject(self) -> str:
        """Return what findings call it, after its place."""
        return f"{'expect' if self.wanted else 'expect-not'} {self.condition.key}"


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Steps that are taken several times."""

    where: str
    count: int
    steps: tuple[Step, ...]


Step: TypeAlias = Line | Wait | Expect | Repeat

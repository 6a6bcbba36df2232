"""Verbs of the guest's init that keep a device busy, and what each of them counted (guest-images/load.c)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from testbed.guest.shell import Command, Result

_FIELD = re.compile(r"([a-z_]{1,32})=([0-9]{1,15}(?:\.[0-9]{1,9})?)")
_SIGUSR1, _SIGTERM = 10, 15


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What one verb did."""

    done: int  #: what the device has answered: writes, frames, reads
    last: float  #: guest seconds at the latest of them
    before_ms: float  #: the longest time between two of them before the mark, in guest milliseconds
    after_ms: float  #: the same after it
    status: int  #: of the verb
    error: str  #: what ended it; empty if it was told to end
    evidence: str
    counts: Mapping[str, int] = field(default_factory=dict)  #: what else it counted


def read_tally(result: Result) -> Tally:
    """Return what a verb that has ended printed; all zero if it did not get so far."""
    fields = filter(None, map(_FIELD.fullmatch, result.text.split()))
    found = {field[1]: float(field[2]) for field in fields}
    known = {name: found.pop(name, 0.0) for name in ("last", "before_ms", "after_ms")}
    return Tally(
        **known,
        done=int(found.pop("done", 0.0)),
        status=result.status,
        error=result.error or ("" if result.status == 0 else f"status {result.status}"),
        evidence=result.evidence,
        counts={name: int(value) for name, value in found.items()},
    )


class BusyVerbs:
    """Verbs at work, all on one device."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands

    @property
    def ended(self) -> bool:
        """Return whether all have ended."""
        return all(command.ended for command in self._commands)

    async def mark(self) -> None:
        """Mark that the stimulus comes next."""
        await self._tell(_SIGUSR1)

    async def stop(self) -> None:
        """Tell those still running to stop after their current operation."""
        await self._tell(_SIGTERM)

    async def tallies(self) -> list[Tally]:
        """Wait for their ends, and return what they did."""
        return [read_tally(await command.wait()) for command in self._commands]

    async def _tell(self, signal: int) -> None:
        for command in self._commands:
            if not command.ended:
                await command.kill(signal)

"""Stall: which accesses to device registers a machine is made not to complete, and for how long.

Models, each with `:read` or `:write` after it for accesses in that direction only:

    off            nothing is held
    smap-erratum   AMD erratum 1096 with a host KVM before 5.3: MMIO at CPL 3 while CR4.SMAP is on, on AMD family 17h
                   models 00h-0Fh and Hygon Dhyana
    always         every access
    after:N        every access after the first N
    for:SECONDS    every access, until so many guest seconds have passed since the first that was held
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from testbed.model.errors import InputError
from testbed.model.mmio_record import Direction, Space

if TYPE_CHECKING:
    from testbed.model.cpu_identity import CpuIdentity

#: how long a guest may be held, in its own seconds
_MOST_SECONDS = 3600.0
_MOST_ACCESSES = 1_000_000
_USER = 3
HINT = "for example: smap-erratum, always:write, after:3, for:2.5"


class StallKind(enum.StrEnum):
    """What decides whether an access is held."""

    OFF = "off"
    SMAP_ERRATUM = "smap-erratum"
    ALWAYS = "always"
    AFTER = "after"
    FOR = "for"


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Under which an access is made: what decides whether a CPU's erratum strikes."""

    space: Space
    cpl: int  #: current privilege level
    smap: bool  #: CR4.SMAP
    cpu: CpuIdentity

    def __str__(self) -> str:
        return f"{self.space} at CPL {self.cpl}, SMAP {'on' if self.smap else 'off'}, {self.cpu}"

    @property
    def has_smap_erratum(self) -> bool:
        """Return whether the CPU hands its hypervisor no instruction bytes for this access, by erratum 1096.

        Ports are not concerned: their intercept says what is accessed (AMD64 APM volume 2, 15.10.2).
        """
        return self.cpu.has_smap_erratum and self.space is Space.MMIO and self.cpl == _USER and self.smap


@dataclass(frozen=True, kw_only=True)
class Stall:
    """A model of a stall."""

    kind: StallKind
    accesses: int = 0  #: of `after`: how many complete
    seconds: float = 0.0  #: of `for`: guest seconds
    direction: Direction | None = None  #: None: reads and writes

    def __str__(self) -> str:
        number = {StallKind.AFTER: f":{self.accesses}", StallKind.FOR: f":{self.seconds:g}"}.get(self.kind, "")
        return f"{self.kind}{number}" + (f":{self.direction}" if self.direction else "")

    @property
    def on(self) -> bool:
        """Return whether it holds anything at all."""
        return self.kind is not StallKind.OFF

    def concerns(self, direction: Direction) -> bool:
        """Return whether accesses in this direction may be held."""
        return self.on and self.direction in (None, direction)

    @property
    def is_erratum(self) -> bool:
        """Return whether the circumstances of an access decide, whoever makes it."""
        return self.kind is StallKind.SMAP_ERRATUM

    def holds(self, *, completed: int, circumstances: Circumstances | None = None) -> bool:
        """Return whether an access must not complete; `completed` were let through before it.

        A device sees no circumstances, and no erratum. When the time of `for` is over is for its user to tell.
        """
        match self.kind:
            case StallKind.SMAP_ERRATUM:
                return circumstances is not None and circumstances.has_smap_erratum
            case StallKind.ALWAYS | StallKind.FOR:
                return True
            case StallKind.AFTER:
                return completed >= self.accesses
            case _:
                return False

    @property
    def words(self) -> str:
        """Return what is modelled, for an outcome."""
        which = f"{self.direction}s" if self.direction else "reads and writes"
        meaning = {
            StallKind.SMAP_ERRATUM: f"MMIO {which} at CPL 3 while CR4.SMAP is on do not complete on AMD family 17h "
            "models 00h-0Fh and Hygon Dhyana (AMD erratum 1096 with a host KVM before Linux 5.3)",
            StallKind.ALWAYS: f"{which} do not complete",
            StallKind.AFTER: f"{which} after the first {self.accesses} do not complete",
            StallKind.FOR: f"{which} complete only after {self.seconds:g} guest seconds",
        }
        return f"{self}: {meaning[self.kind]}" if self.on else ""


def parse_stall(text: str) -> Stall:
    """Read a model as it is written; raise InputError if it is not one."""
    name, *rest = text.split(":")
    if name not in tuple(StallKind):
        raise InputError(f"stall {text!r}: there is no model {name!r}; there are:  {', '.join(StallKind)}", hint=HINT)
    kind = StallKind(name)
    direction = Direction(rest.pop()) if rest and rest[-1] in tuple(Direction) else None
    if kind in (StallKind.AFTER, StallKind.FOR):
        if len(rest) != 1:
            raise InputError(f"stall {text!r}: {kind} takes one number", hint=HINT)
        number = _number(text, rest[0], whole=kind is StallKind.AFTER)
        if kind is StallKind.AFTER:
            return Stall(kind=kind, accesses=int(number), direction=direction)
        return Stall(kind=kind, seconds=number, direction=direction)
    if rest:
        raise InputError(f"stall {text!r}: {rest[0]!r} after {kind} means nothing", hint=HINT)
    return Stall(kind=kind, direction=direction)


def _number(text: str, word: str, *, whole: bool) -> float:
    most = _MOST_ACCESSES if whole else _MOST_SECONDS
    try:
        number = float(int(word) if whole else float(word))
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        wanted = f"a {'whole ' if whole else ''}number from 0 to {most:g}"
        raise InputError(f"stall {text!r}: got {word!r}, wanted {wanted}", hint=HINT)
    return number

"""Verb: one thing that can be said to a machine."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from testbed.verbs.answer import Answer
    from testbed.verbs.bench import Bench

Order = TypeVar("Order")


class Argument(enum.StrEnum):
    """What may follow a verb at one position: the words that a prompt completes."""

    DEVICE = "device"  #: the id of one that is there
    DRIVER = "driver"  #: a short name, or QEMU's
    ON = "on"  #: this very word
    BUS = "bus"
    ERROR = "error"  #: what `inject` injects
    COMMAND = "command"  #: of QMP
    EVENT = "event"  #: of QMP


@dataclass(frozen=True, kw_only=True)
class Verb(Generic[Order]):
    """A verb: how it is written, and what it does."""

    usage: str  #: its name, and what follows that
    does: str  #: in a few words, for a list of the verbs
    parse: Callable[[str], Order]  #: reads what follows the name; raises InputError for what no machine would take
    do: Callable[[Bench, Order], Awaitable[Answer]]
    arguments: tuple[Argument, ...] = ()

    @property
    def name(self) -> str:
        """Return the word it begins with."""
        return self.usage.partition(" ")[0]

"""Verbs: what can be said to one running machine, and what comes of it.

    verbs = Verbs(machine, guest)
    await verbs.start()
    answer = await verbs.obey("plug virtio-blk on rp2")

What only a terminal can do (`console`, `help`, `quit`) is `cli/session.py`'s. To add a verb, write a file with a `Verb`
and put that into `VERBS`.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import TYPE_CHECKING, Any

from testbed.model.errors import InputError
from testbed.verbs.answer import Answer
from testbed.verbs.bench import Bench
from testbed.verbs.inject import INJECT
from testbed.verbs.looks import DEVICES, EVENTS, LOG
from testbed.verbs.plug import PLUG
from testbed.verbs.qmp import QMP
from testbed.verbs.reset import RESET
from testbed.verbs.sh import SH
from testbed.verbs.unplug import UNPLUG
from testbed.verbs.wait import WAIT
from testbed.verbs.wake import WAKE
from testbed.verbs.words import check_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from testbed.guest.guest import Guest
    from testbed.machine.launch import Machine
    from testbed.verbs.verb import Argument, Verb

_ALL = (SH, PLUG, UNPLUG, INJECT, RESET, WAKE, WAIT, QMP, DEVICES, LOG, EVENTS)
#: in the order in which `help` lists them
VERBS: Mapping[str, Verb[Any]] = {verb.name: verb for verb in _ALL}
#: how almost all QMP commands are named, and those that are one plain word (QEMU qapi/*.json, 7.2 to 10.2)
_COMMAND = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)+")
_PLAIN_COMMANDS = ("balloon", "change", "cont", "eject", "migrate", "quit", "screendump", "stop", "transaction")


class Verbs:
    """The verbs of one machine."""

    def __init__(self, machine: Machine, guest: Guest | None, *, patience: float = math.inf) -> None:
        """Take the machine, and how many wall seconds a command in the guest may take before it counts as blocked."""
        self._bench = Bench(machine, guest, patience=patience)

    async def start(self, *, drivers: bool = True, later: bool = True) -> None:
        """Learn what QMP takes, and let the guest drive its devices, unless told not to.

        `drivers` are those of what is there now, `later` those of what is plugged, and all of them after a reset.
        """
        await self._bench.start(drivers=drivers, later=later)

    async def answering(self) -> Guest | None:
        """Return the guest, if it can answer now."""
        return await self._bench.answering()

    async def words(self) -> Mapping[Argument, Sequence[str]]:
        """Return the current completions of each argument."""
        return await self._bench.words()

    async def obey(self, line: str) -> Answer:
        """Do what a line says; nothing for a blank one and for a comment.

        Raises InputError for what is not to be understood or cannot be done to this machine, RefusedError with QEMU's
        words, BrokenError where no guest answers, and what ended the machine.
        """
        found = find_verb(line, self._bench.schema.commands)
        if found is None:
            return Answer()
        verb, text = found
        return await verb.do(self._bench, verb.parse(text))


def check_line(line: str) -> None:
    """Raise InputError for what no machine would take: an unknown verb, the wrong number of words."""
    name = line.split(maxsplit=1)[0] if line.strip() else ""
    if found := find_verb(line, (name,) if _COMMAND.fullmatch(name) else _PLAIN_COMMANDS):
        verb, text = found
        verb.parse(text)


def find_verb(line: str, commands: Collection[str]) -> tuple[Verb[Any], str] | None:
    """Return the verb of a line and what follows its name, `qmp` for one of these commands; None if it says nothing.

    Raises InputError for an unknown one.
    """
    line = line.strip()
    check_text(line)
    name, _, rest = line.partition(" ")
    if not line or line.startswith("#"):
        return None
    if name in VERBS:
        return VERBS[name], rest.strip()
    if line.startswith("{") or name in commands:
        return QMP, line
    close = difflib.get_close_matches(name, [*VERBS, *commands], n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    raise InputError(f"{name!r} is neither a verb nor a QMP command", hint=f"{guess}'help' lists the verbs")

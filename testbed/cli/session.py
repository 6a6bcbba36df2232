"""Session: what a person does at the prompt of `testbed boot`: the verbs, and what only a terminal can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.cli.completion import Vocabulary
from testbed.cli.console_mode import attach_console
from testbed.model.errors import BedError, InputError, QemuCrashedError, QemuLostError, RefusedError
from testbed.steps.record import Recording
from testbed.verbs.qmp import asks_to_quit
from testbed.verbs.verbs import VERBS, Verbs

if TYPE_CHECKING:
    from collections.abc import Callable

    from testbed.cli.standard_input import StandardInput
    from testbed.guest.guest import Guest
    from testbed.machine.launch import Machine
    from testbed.verbs.answer import Answer

    Say = Callable[[str], None]

#: how a line ended that did not do what it was to do, and one that could not be understood
_FAILED, _MISTAKE = 1, 2
_HELP, _CONSOLE, _QUIT = "help", "console", "quit"
#: what only a terminal can do
_OWN = {
    _HELP: "list the verbs",
    _CONSOLE: "a shell on the guest's console, kernel messages and all; Ctrl-] leaves it",
    _QUIT: "end the machine; so does Ctrl-D",
}


class Session:
    """What a person does with one machine."""

    def __init__(self, machine: Machine, guest: Guest | None, *, say: Say, stdin: StandardInput) -> None:
        self._machine = machine
        self._verbs = Verbs(machine, guest)
        self._say = say
        self._stdin = stdin
        #: whether the person has asked to leave
        self.left = False
        #: what was done so far
        self.recording = Recording()
        #: what a script ends with: 0, 1 if a verb failed, 2 if a line could not be understood
        self.status = 0
        #: whether the terminal is the guest's console now
        self.on_console = False

    async def start(self, *, drivers: bool) -> None:
        """Learn what can be asked, and let the guest drive its devices, if it is to."""
        await self._verbs.start(drivers=drivers, later=drivers)

    async def vocabulary(self) -> Vocabulary:
        """Return the words that can be typed now."""
        arguments = {name: verb.arguments for name, verb in VERBS.items()}
        return Vocabulary(verbs={**arguments, **dict.fromkeys(_OWN, ())}, words=await self._verbs.words())

    async def obey(self, line: str) -> None:
        """Carry out a line; report a mistake in it, and raise only the machine's end."""
        try:
            await self._obey(line.strip())
        except (QemuCrashedError, QemuLostError):
            raise
        except BedError as error:
            explain(error, self._say)
            self.note(_MISTAKE if isinstance(error, InputError) else _FAILED)

    async def _obey(self, line: str) -> None:
        if line == _HELP:
            self._help()
        elif line == _CONSOLE:
            await self._console()
        elif asks_to_quit(line):  # the machine is ended in order
            self.left = True
        else:
            answer = await self._verbs_answer(line)
            if answer.text:
                self._say(answer.text)
            self.note(0 if answer.ok else _FAILED)

    async def _verbs_answer(self, line: str) -> Answer:
        try:
            answer = await self._verbs.obey(line)
        except RefusedError as refusal:
            self.recording.note_refusal(line, refusal)
            raise
        self.recording.note(line, answer)
        return answer

    def note(self, status: int) -> None:
        """Note how a line ended; the worst counts."""
        self.status = max(self.status, status)

    def interrupted(self) -> None:
        """Note that a line was cancelled."""
        self._say("interrupted")
        self.note(_FAILED)

    def _help(self) -> None:
        told = {**{verb.usage: verb.does for verb in VERBS.values()}, **_OWN}
        width = max(map(len, told))
        for usage, does in told.items():
            self._say(f"{usage:{width}}  {does}")

    async def _console(self) -> None:
        self.on_console = True
        try:
            await attach_console(self._machine, await self._verbs.answering(), stdin=self._stdin, say=self._say)
        finally:
            self.on_console = False


def explain(error: BedError, say: Say) -> None:
    """Say what went wrong, and what to do about it."""
    say(f"error: {error.message}")
    if error.hint:
        say(f"hint: {error.hint}")

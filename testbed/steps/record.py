"""Recording: what was said to a machine at the prompt, and what it answered, as a file of steps.

The last line that changed the machine becomes the stimulus; answers become expectations where a few words say what came
of a line: an action's outcome, a command's one line, a refusal. What only looked on, and mistakes, are left out.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from testbed.guest.shell import Result
from testbed.machine.qmp import LOOKS
from testbed.model.errors import InputError
from testbed.model.yaml_reader import parse_yaml

if TYPE_CHECKING:
    from testbed.model.errors import RefusedError
    from testbed.verbs.answer import Answer

#: verbs that look and change nothing
_LOOKS = ("devices", "log", "events")
_SPECIAL = re.compile(r"[.^$*+?{}\[\]\\|()]")


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A line that was obeyed, and what is to be expected of it."""

    line: str
    fails: str = ""  #: a pattern for the words it failed with
    expect: str = ""  #: a pattern for its answer
    last_resort: str = ""  #: one that says little: used where nothing else is expected of a stimulus

    @property
    def changes(self) -> bool:
        """Return whether it surely changes the machine; a command in the guest may only look."""
        return self.line.partition(" ")[0] != "sh"


@dataclass
class Recording:
    """The lines of one session so far."""

    taken: list[Taken] = field(default_factory=list)

    def note(self, line: str, answer: Answer) -> None:
        """Note a line and its answer."""
        line = line.strip()
        if not line or line.startswith("#") or _looks(line):
            return
        if isinstance(answer.value, Result):
            self.taken.append(_of_command(line, answer.value))
            return
        first = answer.text.partition("\n")[0]
        outcome = f": {_literal(answer.outcome)}$" if first.endswith(f": {answer.outcome}") else ""
        if not answer.ok:
            self.taken.append(Taken(line=line, fails=outcome or f"^{_literal(first)}"))
        else:
            self.taken.append(Taken(line=line, expect=outcome, last_resort=f"^{_literal(first)}"))

    def note_refusal(self, line: str, refusal: RefusedError) -> None:
        """Note a line that QEMU refused."""
        self.taken.append(Taken(line=line.strip(), fails=_literal(refusal.description)))

    def text(self, *, setup: str, drivers: bool = True) -> str:
        """Return the file; raise InputError if nothing was done that could be judged."""
        stimulus = self._stimulus()
        head = [
            f"# recorded; to ask it again: testbed run FILE -m {shlex.quote(setup)}",
            f"question: {_scalar(f'Does {self.taken[stimulus].line!r} end as it did when this was recorded?')}",
            *([] if drivers else ["drivers: false"]),
            "steps:",
        ]
        judged = any(each.expect or each.fails for each in self.taken[stimulus:])
        steps = [
            line
            for index, each in enumerate(self.taken)
            for line in _step(each, stimulus=index == stimulus, judged=judged)
        ]
        return "\n".join((*head, *steps)) + "\n"

    def _stimulus(self) -> int:
        """Return the place of the last line that changed the machine, or of the last command if none did."""
        if not self.taken:
            raise InputError("nothing was recorded: no line changed the machine or ran a command in its guest")
        changing = [index for index, each in enumerate(self.taken) if each.changes]
        return changing[-1] if changing else len(self.taken) - 1


def _literal(text: str) -> str:
    """Return a pattern that is this text; unlike re.escape it leaves blanks alone."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _looks(line: str) -> bool:
    words = line.removeprefix("qmp ").split()
    return bool(words) and (words[0] in _LOOKS or words[0].startswith(LOOKS))


def _of_command(line: str, result: Result) -> Taken:
    if result.status:
        return Taken(line=line, fails=f"^status {result.status}$")
    lines = result.text.split("\n")
    said = lines[0].rstrip() if len(lines) == 1 else ""
    return Taken(line=line, expect=f"^{_literal(said)}$" if said else "", last_resort="^status 0$")


def _step(each: Taken, *, stimulus: bool, judged: bool) -> list[str]:
    if not stimulus and not each.fails:
        lines = [f"  - {_scalar(each.line)}"]
    else:
        lines = [f"  - {'stimulus' if stimulus else 'do'}: {_scalar(each.line)}"]
        lines += [f"    fails: {_scalar(each.fails)}"] if each.fails else []
    expect = each.expect or ("" if judged or not stimulus else each.last_resort or "^")
    return [*lines, f"  - expect: {_scalar(expect)}"] if expect else lines


def _scalar(text: str) -> str:
    """Return a text as YAML reads it back: bare where that is the same text, else quoted."""
    try:
        [document] = parse_yaml(f"- k: {text}\n- {text}\n", source="")
        bare = document.value == [{"k": text}, text]
    except (InputError, ValueError):
        bare = False
    # a tab stands bare for one YAML parser and not for another
    return text if bare and text.isprintable() else '"' + "".join(map(_quoted, text)) + '"'


def _quoted(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"

"""From the nodes of a YAML file to steps; every mistake is an InputError with the file's line."""

from __future__ import annotations

import contextlib
import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from testbed.model.catalog import unknown
from testbed.model.errors import InputError
from testbed.steps.condition import (
    AnswerSays,
    DeviceIsThere,
    EventCame,
    LogSays,
    PathIsGone,
    PathIsThere,
    RegisterIs,
    pattern_of,
)
from testbed.steps.step import Expect, Line, Repeat, Wait
from testbed.verbs.qmp import asks_to_quit
from testbed.verbs.verbs import VERBS, check_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from testbed.model.yaml_reader import Document, NodePath
    from testbed.steps.condition import Condition
    from testbed.steps.step import Step

#: guest seconds that a wait takes at most, unless it says otherwise
WITHIN = 30.0
_LONGEST = 86_400.0
_MOST_PASSES = 10_000
#: what may stand beside the word that says what kind of step it is
STEP_KEYS: Mapping[str, tuple[str, ...]] = {
    "do": ("fails",),
    "stimulus": ("fails",),
    "wait": (),
    "expect": (),
    "expect-not": (),
    "repeat": ("steps",),
}
#: and beside the word that says what kind of condition it is
CONDITION_KEYS: Mapping[str, tuple[str, ...]] = {
    "answer": (),
    "log": (),
    "event": (),
    "path": ("holds",),
    "gone": (),
    "register": ("is", "mask"),
    "device": (),
}
_LIMITS = ("within", "host")
_EVENT = re.compile(r"[A-Z][A-Z0-9_]*")
_REGISTER = re.compile(r"[A-Za-z0-9_]+(\+[0-9a-fA-F]+)?(\.[bBwWlL])?")


def read_steps(document: Document, path: NodePath, value: Sequence[Any]) -> tuple[Step, ...]:
    """Return the steps of a list; raise InputError for the first mistake."""
    return tuple(_Node(document, (*path, index), each).step() for index, each in enumerate(value))


@dataclass(frozen=True)
class _Node:
    """A value and its position."""

    document: Document
    path: NodePath
    value: Any

    def wrong(self, words: str, *, hint: str | None = None) -> NoReturn:
        raise InputError(f"{self.document.where(self.path)}: {words}", hint=hint)

    def under(self, key: str) -> _Node:
        return _Node(self.document, (*self.path, key), self.value[key])

    @property
    def where(self) -> str:
        return self.document.where(self.path).rpartition("/")[2]

    # -- steps --

    def step(self) -> Step:
        if isinstance(self.value, str):
            return self.line()
        if not isinstance(self.value, dict):
            self.wrong(f"got {_named(self.value)}, wanted a line of the prompt, or one of {', '.join(STEP_KEYS)}")
        kind = self._kind("step", STEP_KEYS, hint=_line_hint(self.value))
        node = self.under(kind)
        if kind in ("do", "stimulus"):
            fails = self.under("fails").pattern() if "fails" in self.value else None
            return node.line(stimulus=kind == "stimulus", fails=fails)
        if kind == "wait":
            return node.wait()
        if kind == "repeat":
            return self.repeat()
        wanted = kind == "expect"
        return Expect(where=node.where, condition=node.condition(), wanted=wanted)

    def line(self, *, stimulus: bool = False, fails: re.Pattern[str] | None = None) -> Line:
        text = self.text("a line of the prompt").strip()
        if text.startswith("#"):
            self.wrong("a comment is not a step", hint="write it without quotes: # ...")
        if asks_to_quit(text):
            self.wrong("quit is not a step: the machine ends when the scenario does")
        with self._told():
            check_line(text)
        return Line(where=self.where, text=text, stimulus=stimulus, fails=fails)

    def repeat(self) -> Repeat:
        count = self.under("repeat").number("a number of passes", most=_MOST_PASSES)
        if count != int(count) or count < 1:
            self.wrong(f"repeat: got {count:g}, wanted a whole number from 1 on")
        if "steps" not in self.value or not isinstance(self.value["steps"], list) or not self.value["steps"]:
            self.wrong("repeat: what?", hint="give it steps: a list beside it")
        steps = read_steps(self.document, (*self.path, "steps"), self.value["steps"])
        return Repeat(where=self.where, count=int(count), steps=steps)

    def wait(self) -> Wait:
        if not isinstance(self.value, dict):
            return Wait(where=self.where, condition=None, seconds=self.number("seconds, or a condition"))
        if set(self.value) == {"host"}:
            return Wait(where=self.where, condition=None, seconds=self.under("host").number("seconds"), of_host=True)
        limits = [key for key in _LIMITS if key in self.value]
        if len(limits) > 1:
            self.wrong("within counts guest seconds and host counts the host's: wanted one of them")
        seconds = self.under(limits[0]).number("seconds") if limits else WITHIN
        rest = _Node(self.document, self.path, {key: value for key, value in self.value.items() if key not in _LIMITS})
        return Wait(where=self.where, condition=rest.condition(), seconds=seconds, of_host=limits == ["host"])

    # -- conditions --

    def condition(self) -> Condition:
        if isinstance(self.value, str):
            return AnswerSays(pattern=self.pattern())
        if not isinstance(self.value, dict):
            self.wrong(
                f"got {_named(self.value)}, wanted a pattern for the answer, or one of {', '.join(CONDITION_KEYS)}"
            )
        kind = self._kind("condition", CONDITION_KEYS)
        make: dict[str, Callable[[], Condition]] = {
            "answer": lambda: AnswerSays(pattern=self.under("answer").pattern()),
            "log": lambda: LogSays(pattern=self.under("log").pattern()),
            "event": self.under(kind).event,
            "path": self._path_is_there,
            "gone": lambda: PathIsGone(path=self.under("gone").file()),
            "register": self._register,
            "device": lambda: DeviceIsThere(device=self.under("device").text("a device's id")),
        }
        return make[kind]()

    def event(self) -> EventCame:
        name, *rest = self.text("a QMP event").split()
        if not _EVENT.fullmatch(name) or not all("=" in word.lstrip("=") for word in rest):
            self.wrong(
                f"event: got {self.value!r}, wanted EVENT [KEY=VALUE...]",
                hint="for example: event: DEVICE_DELETED device=dev1",
            )
        return EventCame(name=name, data=dict(word.split("=", 1) for word in rest))

    def _path_is_there(self) -> PathIsThere:
        holds = self.under("holds").pattern() if "holds" in self.value else None
        return PathIsThere(path=self.under("path").file(), holds=holds)

    def _register(self) -> RegisterIs:
        words = self.under("register").text("DEVICE REGISTER").split()
        if len(words) != 2 or not _REGISTER.fullmatch(words[1]):
            self.under("register").wrong(
                f"register: got {self.value['register']!r}, wanted DEVICE REGISTER, as setpci names it",
                hint="for example: register: rp1 CAP_EXP+1a.w",
            )
        if "is" not in self.value:
            self.wrong(
                "register: lacks the value to compare with", hint="add: is: 0x10, and mask: 0x10 for some of its bits"
            )
        value = int(self.under("is").number("a value", most=(1 << 32) - 1))
        mask = int(self.under("mask").number("a mask", most=(1 << 32) - 1)) if "mask" in self.value else None
        if mask is not None and value & ~mask:
            self.wrong(f"register: {value:#x} has bits outside the mask {mask:#x}, so it can never match")
        return RegisterIs(device=words[0], register=words[1], value=value, mask=mask)

    # -- scalars --

    def text(self, what: str) -> str:
        if not isinstance(self.value, str) or not self.value.strip():
            read_as = isinstance(self.value, int | float | datetime.date)
            hint = "YAML does not read it as text: put it in quotes" if read_as else None
            self.wrong(f"got {_named(self.value)}, wanted {what}", hint=hint)
        return self.value

    def pattern(self) -> re.Pattern[str]:
        text = self.text("a pattern")
        with self._told():
            return pattern_of(text)

    def file(self) -> str:
        path = self.text("a path").strip()
        if not path.startswith("/") and "/" not in path:
            self.wrong(
                f"got {path!r}, wanted a path in the guest",
                hint="/sys/block/vda, or a file of a device's folder in sysfs: dev1/driver",
            )
        return path

    def number(self, what: str, *, most: float = _LONGEST) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            self.wrong(f"got {_named(self.value)}, wanted {what}")
        if not 0 <= self.value <= most:
            self.wrong(f"got {self.value}, wanted {what}: 0 to {most:g}")
        return self.value

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Report where a mistake is."""
        try:
            yield
        except InputError as error:
            self.wrong(error.message, hint=error.hint)

    def _kind(self, what: str, kinds: Mapping[str, tuple[str, ...]], *, hint: str | None = None) -> str:
        """Return the one key that says what kind of thing a mapping is; raise InputError if the keys do not fit."""
        named = [key for key in self.value if key in kinds]
        others = [key for key in self.value if key not in kinds and not any(key in beside for beside in kinds.values())]
        for key in others:
            if key in _LIMITS:
                self.under(key).wrong(f"{key} goes with wait: an expectation is checked once")
            error = unknown(what, str(key), kinds)
            self.under(key).wrong(error.message, hint=hint or error.hint)
        if len(named) != 1:
            got = " and ".join(named) or "none"
            self.wrong(f"got {got}, wanted one of {', '.join(kinds)}")
        for key in self.value:
            if key != named[0] and key not in kinds[named[0]]:
                self.under(key).wrong(f"{key} does not go with {named[0]}")
        return str(named[0])


def _line_hint(value: Mapping[Any, Any]) -> str | None:
    """Say how a line is written, if it was taken for a key and its value."""
    line = next((key for key in value if str(key).partition(" ")[0] in VERBS and key not in STEP_KEYS), None)
    if line is None:
        return None
    quoted = f"a line with ': ' in it needs quotes: - '{line}: {value[line]}'"
    return quoted if " " in line else f"a line is one text: - {line} {value[line]}"


def _named(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"

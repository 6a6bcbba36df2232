"""How values are written: `q35[devices=virtio-blk+nvme,port_properties={hotplug=off}]`, read and written exactly.

    settings  NAME=VALUE,NAME=VALUE      inside `[...]` (given for a name) or `{...}` (a mapping)
    list      ITEM+ITEM                  `[ITEM+ITEM]` inside another list or a mapping
    mapping   {KEY=ITEM,KEY=ITEM}
    item      on, off, 16, a word, or "text" as JSON writes it

Where a parameter is declared its type decides, so that `devices=nvme` is a list and `type=16` a text. A value that a
bare word cannot say is quoted. By hand, `virtio-blk,nvme` is a list and `a=1,b=2` a mapping too: a comma goes on with
the value unless a declared name and `=` follow.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from testbed.model.catalog import unknown
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

Value = str | int | bool | list[Any] | dict[str, Any]

SWITCHES = {"on": True, "off": False, "true": True, "false": False}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_KEY = re.compile(r'[^\s,+={}\[\]"]+')
_WORD = re.compile(r'[^\s,+={}\[\]"]+')
#: as people write it, a word may have blanks in it, and in a mapping whatever does not end it
_ITEM_WORD = re.compile(r'[^\s,+={}\[\]"][^,+={}\[\]"]*')
_ENTRY_WORD = re.compile(r'[^\s,{}\[\]"][^,{}\[\]"]*')
#: a declared text goes on to the next comma or bracket
_TEXT = re.compile(r'[^,\]}"][^,\]}]*')
#: a number as Python prints it
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,999})")
_SPACE = re.compile(r"[ \t]*")
#: values in values
_DEEPEST = 20


def value_text(value: Value) -> str:
    """Return how the value of a setting is written; `ValueReader` reads it back, told its type."""
    if isinstance(value, list | tuple):
        return "+".join(map(_item_text, value))
    return _item_text(value) if value != "" else ""


def settings_text(settings: Mapping[str, Value]) -> str:
    """Return `NAME=VALUE,NAME=VALUE`, sorted by name."""
    return ",".join(f"{name}={value_text(value)}" for name, value in sorted(settings.items()))


def name_text(name: str) -> str:
    """Return a name as written before brackets."""
    return name if re.fullmatch(_BARE_NAME, name) else json.dumps(name)


def _item_text(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_key_text(key)}={_item_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + "+".join(map(_item_text, value)) + "]"
    # a file may have null, a fraction or a date there: each is named as it is, and refused by what it is given to
    return _word_text(value) if isinstance(value, str) else str(value)


def _word_text(text: str) -> str:
    """Return a text bare where that is read as the same text, else quoted."""
    plain = _WORD.fullmatch(text) and text.lower() not in SWITCHES and not _NUMBER.fullmatch(text)
    return text if plain else json.dumps(text)


def _key_text(key: str) -> str:
    return key if _KEY.fullmatch(key) else json.dumps(key)


_BARE_NAME = r'[^\s\[\]{}"]+'


@dataclass
class ValueReader:
    """Reads a text from one place on; every mistake names the place, counted from 1."""

    text: str
    #: what the text is: `machine`, `parameter devices`
    what: str = ""
    at: int = 0

    def fail(self, message: str, *, hint: str | None = None) -> NoReturn:
        """Raise InputError for the text at this position."""
        raise InputError(f"{self.what} {self.text!r}: at character {self.at + 1}: {message}", hint=hint)

    def sees(self, mark: str) -> bool:
        """Return whether this text is next."""
        return self.text.startswith(mark, self.at)

    def takes(self, mark: str) -> bool:
        """Skip this text if it is next, and return whether it was."""
        found = self.sees(mark)
        self.at += len(mark) if found else 0
        return found

    @property
    def rest(self) -> str:
        """Return what is left."""
        return self.text[self.at :]

    def name(self) -> str:
        """Read the name before brackets: a word, or a quoted text."""
        if self.sees('"'):
            return self._quoted()
        return self._match(re.compile(_BARE_NAME), "a name")

    def settings(self, end: str, read: Mapping[str, Callable[[ValueReader, Container[str]], Value]]) -> dict[str, Any]:
        """Read `NAME=VALUE,NAME=VALUE` up to `end`, and go over that; `read` reads the value of each name there is."""
        settings: dict[str, Any] = {}
        while not self.takes(end):
            if settings and not self.takes(","):
                self.fail(f"expected ',' or {end!r}" if end else "expected ','")
            self._skip_space()
            start = self.at
            name = self._match(_NAME, "NAME=VALUE")
            if not self.takes("="):
                self.fail(f"expected '=' after {name}")
            if name not in read:
                self.at = start
                error = unknown(f"{self.what} {self.text!r}: at character {start + 1}:", name, read)
                raise InputError(error.message, hint=error.hint)
            if name in settings:
                self.at = start
                self.fail(f"{name} is given twice")
            settings[name] = read[name](self, read)
            if not end and not self.rest:
                break
        return settings

    def text_value(self, _names: Container[str] = ()) -> str:
        """Read a text: quoted, or up to the next comma or bracket."""
        if self.sees('"'):
            return self._quoted()
        return self._match(_TEXT, "a text", empty=True)

    def items(self, names: Container[str] = ()) -> list[Any]:
        """Read the items of a list, parted by `+` or by commas; nothing is an empty one."""
        items: list[Any] = []
        if self._at_end():
            return items
        items.append(self.item())
        while self.takes("+") or self._goes_on(names):
            items.append(self.item())
        return items

    def mapping(self, names: Container[str] = ()) -> dict[str, Any]:
        """Read a mapping, with or without its braces; nothing is an empty one."""
        if self.sees("{"):
            return self._braces(0)
        mapping: dict[str, Any] = {}
        if self._at_end():
            return mapping
        while True:
            self._entry(mapping, 0)
            if not self._goes_on(names):
                return mapping

    def item(self, depth: int = 0, word: re.Pattern[str] = _ITEM_WORD) -> Value:
        """Read one value whose type nothing but its writing tells."""
        if depth > _DEEPEST:
            self.fail("nested too deeply")
        if self.sees('"'):
            return self._quoted()
        if self.sees("{"):
            return self._braces(depth + 1)
        if self.takes("["):
            return self._brackets(depth + 1)
        text = self._match(word, "a value")
        if text.lower() in SWITCHES:
            return SWITCHES[text.lower()]
        return int(text) if _NUMBER.fullmatch(text) else text

    def _braces(self, depth: int) -> dict[str, Any]:
        self.takes("{")
        mapping: dict[str, Any] = {}
        while not self.takes("}"):
            if mapping and not self.takes(","):
                self.fail("expected ',' or '}'")
            self._entry(mapping, depth)
        return mapping

    def _brackets(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while not self.takes("]"):
            if items and not self.takes("+"):
                self.fail("expected '+' or ']'")
            items.append(self.item(depth))
        return items

    def _entry(self, mapping: dict[str, Any], depth: int) -> None:
        self._skip_space()
        key = self._quoted() if self.sees('"') else self._match(_KEY, "key=value")
        if not self.takes("="):
            self.fail(f"expected '=' after {key}: write key=value")
        mapping[key] = self.item(depth, _ENTRY_WORD)

    def _goes_on(self, names: Container[str]) -> bool:
        """Skip a comma unless the next setting follows."""
        if not self.sees(","):
            return False
        after = _NAME.match(self.text, _SPACE.match(self.text, self.at + 1).end())  # type: ignore[union-attr]
        if after and after[0] in names and self.text.startswith("=", after.end()):
            return False
        self.at += 1
        self._skip_space()
        return not self._at_end() or self.fail("expected a value after ','")

    def _at_end(self) -> bool:
        return self.at >= len(self.text) or self.text[self.at] in ",]}"

    def _skip_space(self) -> None:
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]

    def _match(self, pattern: re.Pattern[str], wanted: str, *, empty: bool = False) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            if empty:
                return ""
            here = repr(self.text[self.at]) if self.rest else "the end"
            self.fail(f"expected {wanted}, got {here}")
        self.at = found.end()
        return found[0]

    def _quoted(self) -> str:
        try:
            text, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
        except ValueError as error:
            self.fail(f"invalid quoted text: {error}", hint='write it as JSON does: "max,+svm"')
        return str(text)

"""From a line that a person typed to what a verb needs."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from testbed.model.errors import InputError
from testbed.model.json_reader import parse_json
from testbed.model.parameter import size_in_bytes
from testbed.model.value_text import SWITCHES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from testbed.actions.injection import Header

    #: the JSON types of a command's arguments, by what is written for them
    Kinds = Callable[[str, Mapping[str, str]], Mapping[str, str]]

_QMP_HINT = 'for example: query-pci, or: qom-get path=/machine/peripheral/dev1 property=type, or: {"execute": "stop"}'


@dataclass(frozen=True, kw_only=True)
class PlugOrder:
    """What `plug` was asked for."""

    driver: str
    bus: str | None
    properties: dict[str, str]


def split_words(text: str) -> list[str]:
    """Split as a shell does; raise InputError for a quote that is not closed."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"{text!r}: {error}") from None


def misused(verb: str, text: str, usage: str, *, example: str) -> InputError:
    """Build the error of a verb whose arguments do not fit."""
    return InputError(f"{verb}: got {text or 'nothing'!r}, wanted {usage}", hint=f"for example: {example}")


def parse_plug(text: str, *, usage: str) -> PlugOrder:
    """Read `DEVICE [on BUS] [PROPERTY=VALUE...]`; raise InputError if it is not that."""
    words = split_words(text)
    driver, rest = words[:1], words[1:]
    bus = None
    if rest[:1] == ["on"]:
        bus, rest = (rest[1] if rest[1:] else ""), rest[2:]
    if not driver or bus == "" or not all("=" in word.lstrip("=") for word in rest):
        raise misused("plug", text, usage, example="plug virtio-blk on rp3")
    return PlugOrder(driver=driver[0], bus=bus, properties=_pairs(rest))


def parse_qmp(text: str, kinds: Kinds) -> tuple[str, dict[str, Any]]:
    """Read `COMMAND`, `COMMAND key=value...`, `COMMAND {JSON}` or a whole message; raise InputError if it is not that.

    `kinds` tells the JSON types of a command's arguments, and so what `on`, `512M` or `16` stands for.
    """
    if text.startswith("{"):
        message = _object(text)
        command, arguments = message.get("execute"), message.get("arguments", {})
        if not isinstance(command, str) or not isinstance(arguments, dict):
            raise InputError("qmp: the message has no command in 'execute'", hint=_QMP_HINT)
        return command, arguments
    command, _, rest = text.strip().partition(" ")
    if not command:
        raise InputError("qmp: no command", hint=_QMP_HINT)
    rest = rest.strip()
    return command, _object(rest) if rest.startswith("{") else _arguments(command, split_words(rest), kinds)


def parse_count(text: str, *, default: int) -> int:
    """Read a number of lines; raise InputError if it is not one."""
    if not text.strip():
        return default
    if not text.strip().isdecimal():
        raise InputError(f"{text!r} is not a number of lines")
    return int(text)


def parse_header(words: Sequence[str]) -> Header | None:
    """Read the words of a TLP's header or prefixes, up to four; those left out are 0. None if there are none.

    Raises InputError if they are not that.
    """
    if not words:
        return None
    try:
        values = [int(word, 0) for word in words]
    except ValueError:
        values = []
    if not 0 < len(values) <= 4 or any(not 0 <= value < 1 << 32 for value in values):
        raise InputError(f"header {' '.join(words)!r}: is not up to four words of 32 bits", hint="for example: 0 1 2 3")
    first, second, third, fourth = values + [0] * (4 - len(values))
    return first, second, third, fourth


def _arguments(command: str, words: Sequence[str], kinds: Kinds) -> dict[str, Any]:
    for word in words:
        if "=" not in word.lstrip("="):
            raise InputError(f"qmp: {word!r} is not key=value", hint=_QMP_HINT)
    texts = _pairs(words)
    types = kinds(command, texts)
    return {key: _value(key, text, types.get(key, "value")) for key, text in texts.items()}


def _pairs(words: Sequence[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _value(key: str, text: str, kind: str) -> Any:
    """Return the value that a text has in an argument of this JSON type; raise InputError if it has none."""
    if kind == "int":
        return _number(key, text)
    if kind == "boolean" and text.lower() not in SWITCHES:
        raise InputError(f"qmp: {key}: got {text!r}, wanted on or off")
    if kind != "string" and text.lower() in SWITCHES:
        return SWITCHES[text.lower()]
    if kind == "string" and not text.startswith('"'):
        return text
    try:
        return parse_json(text)
    except ValueError:
        return text


def _number(key: str, text: str) -> int:
    with contextlib.suppress(ValueError):
        return int(text, 0)
    try:
        return size_in_bytes(text)
    except ValueError:
        raise InputError(f"qmp: {key}: got {text!r}, wanted a number or a size such as 512M") from None


def _object(text: str) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise InputError(f"qmp: not JSON: {error}", hint=_QMP_HINT) from None
    if not isinstance(value, dict):
        raise InputError("qmp: not a JSON object", hint=_QMP_HINT)
    return value

"""The verb `qmp`: any QMP command, with its arguments as a person writes them."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from testbed.machine.qmp import LOOKS
from testbed.model.errors import InputError
from testbed.model.json_reader import parse_json
from testbed.model.parameter import size_in_bytes
from testbed.model.value_text import SWITCHES
from testbed.verbs.answer import Answer
from testbed.verbs.reset import RESET
from testbed.verbs.verb import Argument, Verb
from testbed.verbs.wake import WAKE
from testbed.verbs.words import check_text, json_or_text, pairs, split_words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from testbed.machine.launch import Machine
    from testbed.verbs.bench import Bench

    #: the JSON types of a command's arguments, by what is written for them
    Kinds = Callable[[str, Mapping[str, str]], Mapping[str, str]]

#: commands after which the guest must be listened to
_WATCHED = {verb.name: verb for verb in (RESET, WAKE)}
_HINT = 'for example: query-pci, or: qom-get path=/machine/peripheral/dev1 property=type, or: {"execute": "stop"}'


def parse_qmp(text: str, kinds: Kinds) -> tuple[str, dict[str, Any]]:
    """Read `COMMAND`, `COMMAND key=value...`, `COMMAND {JSON}` or a whole message; raise InputError if it is not that.

    `kinds` tells the JSON types of a command's arguments, and so what `on`, `512M` or `16` stands for.
    """
    if text.startswith("{"):
        message = _object(text)
        command, arguments = message.get("execute"), message.get("arguments", {})
        if not isinstance(command, str) or not isinstance(arguments, dict):
            raise InputError("qmp: the message has no command in 'execute'", hint=_HINT)
        return command, arguments
    command, _, rest = text.strip().partition(" ")
    if not command:
        raise InputError("qmp: no command", hint=_HINT)
    rest = rest.strip()
    return command, _object(rest) if rest.startswith("{") else _arguments(command, split_words(rest), kinds)


async def _execute(bench: Bench, text: str) -> Answer:
    command, arguments = parse_qmp(text, bench.schema.kinds)
    if command in _WATCHED:
        return await _WATCHED[command].do(bench, None)
    if not command.startswith(LOOKS):
        bench.note_request()
    if command == "device_add":
        arguments = _typed(bench.machine, arguments)
    value = await bench.machine.qmp.execute(command, arguments)
    # the human monitor answers with text
    said = value.replace("\r", "").rstrip("\n") if isinstance(value, str) else json.dumps(value, indent=2)
    return Answer(text=said, value=value)


def _typed(machine: Machine, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of a new device as its driver wants them; what QEMU does not know it refuses itself."""
    driver = str(arguments.get("driver"))
    known = machine.qemu.properties(driver) if driver in machine.qemu.drivers else {}
    return {key: machine.qemu.typed(driver, key, value) if key in known else value for key, value in arguments.items()}


def _checked(text: str) -> str:
    """Return the text; raise InputError for what no QEMU takes. Which types the arguments have, only QEMU tells."""
    parse_qmp(text, lambda *_: {})
    return text


def asks_to_quit(line: str) -> bool:
    """Return whether a line is QMP's `quit`, however it is written."""
    with contextlib.suppress(InputError):
        return parse_qmp(line.removeprefix("qmp "), lambda *_: {})[0] == "quit"
    return False


def _arguments(command: str, words: Sequence[str], kinds: Kinds) -> dict[str, Any]:
    for word in words:
        if "=" not in word.lstrip("="):
            raise InputError(f"qmp: {word!r} is not key=value", hint=_HINT)
    texts = pairs(words)
    types = kinds(command, texts)
    return {key: _value(key, text, types.get(key, "value")) for key, text in texts.items()}


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
    return json_or_text(text)


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
        raise InputError(f"qmp: not JSON: {error}", hint=_HINT) from None
    if not isinstance(value, dict):
        raise InputError("qmp: not a JSON object", hint=_HINT)
    check_text(json.dumps(value, ensure_ascii=False))
    return value


QMP = Verb(
    usage="qmp COMMAND [JSON|KEY=VALUE...]",
    does="run a QMP command; 'qmp' may be left out",
    parse=_checked,
    do=_execute,
    arguments=(Argument.COMMAND,),
)

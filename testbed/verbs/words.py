"""The words of a line: what several verbs read in the same way."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from testbed.model.errors import InputError
from testbed.model.json_reader import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from testbed.actions.injection import Header


def split_words(text: str) -> list[str]:
    """Split as a shell does; raise InputError for a quote that is not closed."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"{text!r}: {error}") from None


def check_text(text: str) -> None:
    """Raise InputError for what is no text that can be sent: half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{text!r}: character {error.start + 1} is half of one") from None


def misused(text: str, usage: str, *, example: str) -> InputError:
    """Build the error of a verb whose arguments do not fit."""
    verb = usage.partition(" ")[0]
    return InputError(f"{verb}: got {text or 'nothing'!r}, wanted {usage}", hint=f"for example: {example}")


def no_words(verb: str) -> Callable[[str], None]:
    """Return what reads nothing, and raises InputError if there is something."""

    def parse(text: str) -> None:
        if text:
            raise InputError(f"{verb}: takes no arguments, got {text!r}")

    return parse


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


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Return what each `KEY=VALUE` says."""
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def json_or_text(text: str) -> Any:
    """Return the JSON value that a text is, else the text."""
    try:
        return parse_json(text)
    except ValueError:
        return text

"""The kernel command line as a value.

Split as the kernel does it (lib/cmdline.c, next_arg): blanks separate options, double quotes protect blanks, and `--`
ends the kernel's own options; what follows is handed to init. The text itself is never changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from testbed.model.errors import InputError

#: x86 COMMAND_LINE_SIZE is 2048 with the NUL (arch/x86/include/asm/setup.h)
MAX_LENGTH = 2047

#: what the bed puts before every line under test
PREFIX = "console=ttyS0"

_CHANNEL_HINT = "leave it out: the test bed talks to the guest over ttyS1 and its own init"


@dataclass(frozen=True)
class CommandLine:
    """A kernel command line, kept verbatim."""

    text: str

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Return where each blank-separated word begins and ends in the text."""
        return _spans(self.text)

    @property
    def words(self) -> list[str]:
        """Return the blank-separated words, quotes kept."""
        return [self.text[start:end] for start, end in self.spans]

    @property
    def options(self) -> list[str]:
        """Return the kernel's options: the words before `--`."""
        words = self.words
        return words[: words.index("--")] if "--" in words else words

    @property
    def init_arguments(self) -> list[str]:
        """Return what init gets: the words after `--`."""
        words = self.words
        return words[words.index("--") + 1 :] if "--" in words else []

    def values(self, name: str) -> list[str]:
        """Return every value given to option `name` (dash and underscore are the same), in order."""
        wanted = _name(name)
        return [value for key, value in map(name_and_value, self.options) if key == wanted]

    def with_prefix(self) -> str:
        """Return the whole line a guest is booted with: the bed's own options, then this one verbatim."""
        return f"{PREFIX} {self.text}" if self.text else PREFIX

    def check(self) -> None:
        """Raise InputError if this line cannot be passed on, or would take the test bed's channel."""
        if any(ord(char) < 32 for char in self.text):
            raise InputError("kernel command line: holds a control character", hint="give it as one line")
        if self.text.count('"') % 2:
            raise InputError(f"kernel command line: a double quote is not closed: {_end(self.text)}")
        try:
            length = len(self.with_prefix().encode())
        except UnicodeEncodeError:
            raise InputError(f"kernel command line: is not UTF-8 text: {self.text!r}") from None
        if length > MAX_LENGTH:
            raise InputError(
                f"kernel command line: {length} bytes with the test bed's {PREFIX!r}, the kernel takes {MAX_LENGTH}",
                hint="shorten it: the kernel would silently cut off its end",
            )
        for option in self.options:
            if takes_channel(option):
                raise InputError(
                    f"kernel command line: {option!r} takes over the test bed's channel", hint=_CHANNEL_HINT
                )


def takes_channel(option: str) -> bool:
    """Return whether a guest booted with this option could not talk to the test bed."""
    name, value = name_and_value(option)
    if name in ("rdinit", "noinitrd"):
        return True
    if name in ("8250.nr_uarts", "8250_core.nr_uarts"):
        # the kernel reads the number as C does: 0x1 and 01 are one too
        return re.fullmatch(r"\+?(0x)?0*[01]", value, re.IGNORECASE) is not None
    if name in ("console", "earlyprintk", "kgdboc"):
        return "ttyS1" in value.split(",")
    return False


def name_and_value(option: str) -> tuple[str, str]:
    """Return an option's name, dashes as underscores, and its value, both without the quotes around them."""
    key, _, value = option.partition("=")
    return _name(key.strip('"')), value.strip('"')


def _name(key: str) -> str:
    return key.replace("-", "_")


def _spans(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    start, quoted = None, False
    for place, char in enumerate(text):
        quoted ^= char == '"'
        blank = char in " \t" and not quoted
        if blank and start is not None:
            spans.append((start, place))
            start = None
        elif not blank and start is None:
            start = place
    return spans if start is None else [*spans, (start, len(text))]


def _end(text: str) -> str:
    return text[text.rindex('"') :][:40]

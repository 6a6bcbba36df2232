"""grub.cfg: its menu, as far as it can be read without running it.

It is a script. What the generators of the distributions write is followed: menus within menus, variables, and the
entries of loader/entries where it says `blscfg`. Conditions are not judged: a menu entry counts wherever it stands.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from testbed.image.disk.boot_entry import MAX_ENTRIES, MAX_LINES, BootEntry, expanded, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_LINUX = ("linux", "linux16", "linuxefi")
_INITRD = ("initrd", "initrd16", "initrdefi")
_MAX_DEPTH = 16


def read_grubenv(text: str) -> dict[str, str]:
    """Return the variables that GRUB keeps between boots."""
    lines = (line.partition("=") for line in text.split("\n")[:MAX_LINES] if not line.startswith("#"))
    return {name: value for name, separator, value in lines if separator}


def read_grub(
    text: str, *, source: str, environment: Mapping[str, str], entries: Sequence[BootEntry] = ()
) -> list[BootEntry]:
    """Return the menu of a grub.cfg; `entries` are those that `blscfg` stands for.

    The one that boots by default is marked.
    """
    menu = _Menu(source, environment)
    for number, line in _logical_lines(text):
        menu.take(number, line, entries)
    return menu.marked()


class _Menu:
    """The menu while its lines are read."""

    def __init__(self, source: str, environment: Mapping[str, str]) -> None:
        self._source = source
        self._variables = dict(environment)
        self._defaults: list[tuple[int, str]] = []
        self._entries: list[BootEntry] = []
        #: for each open brace, the names of the submenu it opens; None for a brace of another kind
        self._open: list[list[str] | None] = []
        self._counts = [0]
        self._conditions = 0
        self._entry: dict[str, str] | None = None
        self._entry_depth = 0

    def take(self, number: int, line: str, bls: Sequence[BootEntry]) -> None:
        """Take one line."""
        words = split_words(line)
        if not words:
            return
        command = words[0]
        self._conditions += (command == "if") - (command == "fi")
        if command == "set" and len(words) > 1:
            self._set(words[1])
        elif command in ("menuentry", "submenu") and len(words) > 1:
            self._begin(number, words)
        elif command in _LINUX and self._entry is not None and len(words) > 1:
            self._entry["kernel"] = self._plain(words[1])
            self._entry["cmdline"] = one_line([self._argument(word) for word in words[2:]])
        elif command in _INITRD and self._entry is not None:
            self._entry["initrds"] = "\n".join(map(self._plain, words[1:]))
        elif command == "blscfg":
            for entry in bls:
                self._add(replace(entry, cmdline=one_line(expanded(entry.cmdline, self._variables).split())))
        elif command == "}":
            self._close()
        elif words[-1] == "{" and len(self._open) < _MAX_DEPTH:
            self._open.append(None)

    def _set(self, assignment: str) -> None:
        name, _, value = assignment.partition("=")
        value = expanded(_unquoted(value), self._variables)
        if name == "default" and value:
            self._defaults.append((self._conditions, value))
        elif not self._conditions or not self._variables.get(name):
            # `if [ -z "${kernelopts}" ]` gives a default; what is set is not overridden under a condition
            self._variables[name] = value

    def _begin(self, number: int, words: list[str]) -> None:
        if len(self._open) >= _MAX_DEPTH:
            return
        title = self._plain(words[1])
        ids = [self._plain(after) for word, after in pairwise(words) if _is_id_option(word)]
        own = [str(self._counts[-1]), title, *ids]
        self._counts[-1] += 1
        above = next((names for names in reversed(self._open) if names), None)
        names = own if above is None else [f"{outer}>{inner}" for outer in above for inner in own]
        if words[0] == "submenu":
            self._open.append(names)
            self._counts.append(0)
            return
        self._open.append(None)
        self._entry_depth = len(self._open)
        shown = title if above is None else f"{above[1]} > {title}"
        self._entry = {"title": shown, "names": "\0".join([*names, *ids]), "source": f"{self._source}:{number}"}

    def _close(self) -> None:
        if self._entry is not None and len(self._open) == self._entry_depth:
            self._finish(self._entry)
            self._entry = None
        if self._open and self._open.pop() is not None:
            self._counts.pop()

    def _finish(self, entry: Mapping[str, str]) -> None:
        if entry.get("kernel"):
            initrds = tuple(filter(None, entry.get("initrds", "").split("\n")))
            names = tuple(entry["names"].split("\0"))
            self._add(
                BootEntry(
                    title=entry["title"],
                    kernel=entry["kernel"],
                    cmdline=entry["cmdline"],
                    initrds=initrds,
                    source=entry["source"],
                    names=names,
                )
            )

    def _add(self, entry: BootEntry) -> None:
        if len(self._entries) < MAX_ENTRIES:
            self._entries.append(entry)

    def marked(self) -> list[BootEntry]:
        """Return the entries, the default one marked."""
        plain = [value for depth, value in self._defaults if depth == 0]
        chosen = (plain[-1:] or [value for _, value in self._defaults[:1]] or ["0"])[0]
        named = next((entry for entry in self._entries if chosen in entry.names), None)
        if named is None and chosen.isdecimal() and int(chosen) < len(self._entries):
            named = self._entries[int(chosen)]
        default = named or next(iter(self._entries), None)
        return [replace(entry, default=entry is default) for entry in self._entries]

    def _plain(self, word: str) -> str:
        return expanded(_unquoted(word), {} if word.startswith("'") else self._variables)

    def _argument(self, word: str) -> str:
        """Return a word as GRUB hands it to the kernel: one with blanks in it gets quotes around it."""
        text = _unquoted(word)
        if "$" in text and not word.startswith("'"):
            return expanded(text, self._variables)
        return f'"{text}"' if " " in text else text


def _is_id_option(word: str) -> bool:
    return word in ("--id", "$menuentry_id_option", "${menuentry_id_option}")


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines without comments, those that end with a backslash joined, with the number of the first."""
    joined, first = "", 0
    for number, line in enumerate(text.split("\n")[:MAX_LINES], 1):
        first = first or number
        if line.endswith("\\"):
            joined += line[:-1]
            continue
        stripped = (joined + line).strip()
        if stripped and not stripped.startswith("#"):
            for part in _statements(stripped):
                yield first, part
        joined, first = "", 0


def _statements(line: str) -> list[str]:
    """Return the statements of a line that has several: `if X; then` and `}` behind something."""
    parts = re.split(r";\s+", line) if "menuentry" not in line else [line]
    return [part.strip() for part in parts if part.strip()]


def split_words(line: str) -> list[str]:
    """Return the words of a statement, their quotes kept."""
    return re.findall(r"(?:[^\s'\"\\]|\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\"|['\"])+", line)


def _unquoted(word: str) -> str:
    """Return a word without its quotes and backslashes."""
    parts = re.findall(r"'([^']*)'|\"((?:[^\"\\]|\\.)*)\"|(\\.|[^'\"\\]+|['\"])", word)
    return "".join(single or re.sub(r"\\([\\\"$])", r"\1", double) or _bare(bare) for single, double, bare in parts)


def _bare(text: str) -> str:
    return text.removeprefix("\\")

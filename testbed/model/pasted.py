"""A file as people hand it on: its encoding, and what an e-mail, a web page, grep or a container put before its lines.

Every reader of a user's file goes through here. A reader gives one predicate: which lines it knows as its own. What
stands before a line is taken off if that makes a known line of it, and the lines that follow lose what the last known
one lost. Nothing is cut without a reader's word, for what is a line number of grep's in one file is the offset of a row
of bytes in another: `10: 04 00`.

Forms: a web page's entities, a forum's tags, quoted-printable; grep -n, -H and -nH; cat -n and nl; e-mail quotes; the
time stamps of containers (docker logs -t, docker's own JSON, CRI), of CI and of serial consoles (tio, minicom,
grabserial, ts, conserver); names before a bar or in brackets as docker compose and kubectl put them.
"""

from __future__ import annotations

import codecs
import html
import re
from typing import TYPE_CHECKING

from testbed.model.errors import InputError
from testbed.model.json_reader import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: what looks at an encoding's shape
_HEAD = 4096
#: longer than any line that is read: an interrupt's on 512 CPUs has 6 KB
MAX_LINE = 1 << 16

_PRINTABLE = frozenset((*range(0x20, 0x7F), *b"\t\r\n\x1b"))
#: colours and cursor movements, also as less and cat -v spell the escape character out
_ESCAPES = re.compile(r"(?:\x1b|\^\[)\[[0-9;?]{0,20}[A-Za-z]|ESC\[[0-9;]{0,20}[mK]|\x1b[()][0-9A-B]")
_ESCAPE_MARKS = ("\x1b", "^[", "ESC[")
#: what a web page and a forum make of a text
_ENTITIES = re.compile(r"&(?:gt|lt|amp|quot|nbsp|#[0-9]{2,5});")
_FORUM_TAGS = re.compile(r"\[/?(?:B|I|CODE|COLOR|FONT|SIZE|QUOTE)(?:=[^\]\[]{0,40})?\]")
#: a mail in quoted-printable that was saved as it is: `=3D` for the equals sign, `=` where it wraps a line
_QUOTED_PRINTABLE = re.compile(r"=(3D|20|09)")
_BLANKS = str.maketrans({"\xa0": " ", "\u202f": " ", "\ufeff": None, "\u200b": None, "\0": None})

#: how files begin that are no text yet: what they are, and what makes text of them
_PACKED = (
    (b"\x1f\x8b", "compressed with gzip", "zcat {file}"),
    (b"\xfd7zXZ\x00", "compressed with xz", "xzcat {file}"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "zstdcat {file}"),
    (b"BZh", "compressed with bzip2", "bzcat {file}"),
    (b"PK\x03\x04", "a zip archive", "unzip -p {file}"),
    (b"LPKSHHRH", "a systemd journal", "journalctl -k --file {file}"),
)

_INDENT = re.compile(r"[ \t]{1,400}")
_ZONE = r"(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?"
#: each takes one thing off the front of a line; all are bounded and begin where the line begins
_LAYERS = (
    # e-mail quotes, also with a writer's initials
    re.compile(r"(?:[A-Za-z]{0,3}[>|] ?){1,16}"),
    _INDENT,
    # grep -n, with and without the file's name, and with a dash on lines of context; grep -H
    re.compile(r"[0-9]{1,8}[:-]"),
    re.compile(r"[^\s:]{1,200}[:-][0-9]{1,8}[:-]"),
    re.compile(r"(?:[\w~+-]{0,200}[./][\w./~+-]{0,200}|[\w~+-]{1,200}(?=:[^ ])):"),
    # cat -n, nl, an editor's line numbers
    re.compile(r" {0,10}[0-9]{1,8}(?:\t| {1,2})"),
    # date and time of a container, of CI, of a console's log
    re.compile(rf"\[?[0-9]{{4}}[-/][0-9]{{2}}[-/][0-9]{{2}}[T ]{_CLOCK}{_ZONE}\]?:? ?(?:std(?:out|err) [FP] )?"),
    re.compile(rf"\[?{_CLOCK}\]?:? ?"),
    re.compile(rf"\[?(?:[^\s\d\[\]:]{{2,10}} {{1,2}}){{1,2}}[0-9]{{1,2}} {_CLOCK}(?: [0-9]{{4}})?\]?:? "),
    re.compile(r"[0-9]{10}(?:\.[0-9]{1,9})? "),
    re.compile(r"\[ {0,8}[0-9]{1,8}\.[0-9]{1,9}(?: {1,8}[0-9.]{1,16})?\] ?"),
    # who said it: a compose service before a bar, a pod or job in brackets, a daemon that keeps consoles
    re.compile(r"[^\s|]{1,80} {0,40}\| "),
    re.compile(r"\[[\w/.:-]{1,120}\] "),
    re.compile(r"[\w.@-]{1,80} [\w./@-]{1,40}\[[0-9]{1,8}\]: (?=[\[<])"),
)
#: what stands before a line's own text has at most so many layers
_DEPTH = 3
#: after so many lines without a find no more are looked through: the file is written plainly, or of another kind
_PATIENCE = 20_000
#: members of a JSON line that hold a message: docker's json-file, journalctl -o json, LAVA
_MESSAGES = ("log", "MESSAGE", "msg", "message")


def refuse_packed(data: bytes, *, source: str, command: str) -> None:
    """Raise InputError if a file has to be unpacked first; `command` is what then reads a pipe: `testbed explain -`."""
    for magic, what, unpack in _PACKED:
        if data.startswith(magic):
            raise InputError(f"reading {source}: it is {what}", hint=f"{unpack.format(file=source)} | {command}")


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text by how it begins: UTF-8, or UTF-16 with a byte order mark or without one."""
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = head[: _HEAD - _HEAD % 2]
    even, odd = head[0::2], head[1::2]
    if _is_wide(even, odd):
        return "utf-16-le"
    return "utf-16-be" if _is_wide(odd, even) else "utf-8"


def is_binary(data: bytes) -> bool:
    """Return whether this is no text in any encoding; text may have a few NULs, as of a serial line attached late."""
    if encoding_of(data).startswith("utf-16"):
        return False
    head = data[: 1 << 16]
    odd = len(head) - len(head.translate(None, bytes((*range(9), *range(14, 27), *range(28, 32)))))
    return odd * 10 > len(head)


def decode(data: bytes) -> str:
    """Return the text of a file; what is no character of its encoding is replaced."""
    return data.decode(encoding_of(data), "replace")


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, each as it was meant; only a line feed ends one, so that they keep their numbers."""
    if "=3D" in text and ("=\n" in text or "=\r\n" in text):
        text = _QUOTED_PRINTABLE.sub(lambda match: chr(int(match[1], 16)), text)
    return [clean_line(line) for line in text.split("\n")]


def clean_line(text: str) -> str:
    """Return a line without carriage returns, NULs, colours, tags and odd blanks, and no more of it than is of use."""
    text = text[:MAX_LINE].strip("\r\n\0")
    if any(mark in text for mark in _ESCAPE_MARKS):
        text = _ESCAPES.sub("", text)
    if "&" in text:
        text = _ENTITIES.sub(lambda match: html.unescape(match[0]), text)
    if "[/" in text:
        text = _FORUM_TAGS.sub("", text)
    return text if text.isascii() and "\0" not in text else text.translate(_BLANKS).strip("\r")


class Unwrapper:
    """Takes off the lines of one text what was put before them when it was pasted, quoted or logged again."""

    def __init__(self, knows: Callable[[str], bool]) -> None:
        """Take what tells a line of the reader's own; it has to take linear time."""
        self._knows = knows
        #: what was taken off the last known line
        self._envelope: tuple[re.Pattern[str], ...] = ()
        self._fruitless = 0

    def unwrap(self, text: str) -> str:
        """Return the next line without what was put before it."""
        if text.startswith("{"):
            text = _message(text) or text
        same = _peeled(text, self._envelope)
        if same is not None and self._envelope and self._knows(same):
            return same
        if self._knows(text):
            self._envelope = ()
            return text
        found = self._search(text) if self._fruitless < _PATIENCE else None
        self._fruitless = 0 if found is not None else self._fruitless + 1
        if found is not None:
            return found
        # an indent of its own belongs to the line: only what all lines have is taken off
        return text if same is None else same

    def _search(self, text: str) -> str | None:
        """Return the known line in a line, with as little as possible taken off; the envelope is then this line's."""
        wrapped: list[tuple[str, tuple[re.Pattern[str], ...]]] = [(text, ())]
        for _ in range(_DEPTH):
            inner = [(rest, (*layers, layer)) for line, layers in wrapped for layer, rest in _layers_of(line)]
            wrapped = list({rest: (rest, layers) for rest, layers in reversed(inner)}.values())[::-1]
            for rest, layers in wrapped:
                if self._knows(rest):
                    self._envelope = layers
                    return rest
        return None


def unwrapped(lines: Iterable[str], knows: Callable[[str], bool]) -> Iterator[str]:
    """Return every line without what was put before it when the text was pasted, quoted or logged again."""
    unwrapper = Unwrapper(knows)
    return map(unwrapper.unwrap, lines)


def _is_wide(letters: bytes, zeros: bytes) -> bool:
    """Return whether these are the halves of UTF-16: most of one are ASCII letters, nearly all of the other NULs.

    Of a line in French or German a fifth may be letters beyond ASCII.
    """
    if len(zeros) < 4 or zeros.count(0) * 10 < len(zeros) * 9:
        return False
    return sum(each in _PRINTABLE for each in letters) * 4 >= len(letters) * 3


def _layers_of(text: str) -> Iterator[tuple[re.Pattern[str], str]]:
    """Return what may have been put before a line, and the line without it."""
    for layer in _LAYERS:
        match = layer.match(text)
        if match and match.end() < len(text):
            yield _as_wide(match[0]) if layer is _INDENT else layer, text[match.end() :]


def _as_wide(indent: str) -> re.Pattern[str]:
    """Return what takes an indent of this width off other lines, and leaves them the rest of theirs."""
    return re.compile(rf"[ \t]{{0,{len(indent)}}}")


def _peeled(text: str, layers: Iterable[re.Pattern[str]]) -> str | None:
    """Return a line without these layers; None if it does not have them."""
    for layer in layers:
        match = layer.match(text)
        if match is None:
            return None
        text = text[match.end() :]
    return text


def _message(text: str) -> str | None:
    """Return the message in a line that is a JSON object."""
    try:
        members = parse_json(text)
    except ValueError:
        return None
    messages = (members.get(name) for name in _MESSAGES) if isinstance(members, dict) else ()
    found = next((each for each in messages if isinstance(each, str)), None)
    return None if found is None else clean_line(found.partition("\n")[0])

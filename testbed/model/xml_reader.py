"""The one XML reader: elements with their lines, and no XML feature that can do harm.

A document type is refused, and with it every custom entity; so is a file that is large or deeply nested.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.parsers import expat

from testbed.model.errors import InputError
from testbed.model.pasted import decode, refuse_packed, unwrapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MOST_BYTES = 4 << 20
_MOST_LEVELS = 64


@dataclass(kw_only=True)
class Element:
    """An XML element; names keep their prefix (`qemu:arg`)."""

    tag: str
    line: int  #: of its start tag
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""  #: its own, without that of its children
    children: list[Element] = field(default_factory=list)

    def find(self, path: str) -> Element | None:
        """Return the first element at a path of tags below this one."""
        return next(iter(self.all(path)), None)

    def all(self, path: str) -> list[Element]:
        """Return the elements at a path of tags below this one."""
        found = [self]
        for tag in path.split("/"):
            found = [child for each in found for child in each.children if child.tag == tag]
        return found

    def get(self, path: str, name: str, default: str = "") -> str:
        """Return an attribute of the first element at a path (empty: of this one)."""
        element = self.find(path) if path else self
        return element.attributes.get(name, default) if element else default

    def words(self, path: str) -> str:
        """Return the text of the first element at a path, without blanks around it."""
        element = self.find(path)
        return element.text.strip() if element else ""


def read_xmls(path: Path, tag: str) -> list[Element]:
    """Return every element of a file with this tag that is in no other such; the root element if there is none.

    What stands between and around them is passed over, as is what was put before their lines when they were pasted.
    Raises InputError with the line of what is wrong.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    _check_size(data, str(path))
    refuse_packed(data, source=str(path), command="cat > plain.xml")
    text = decode(data)
    if f"<{tag}" not in text and f"&lt;{tag}" in text:  # from a web page's source
        text = html.unescape(text)
    # not cleaned of entities as other texts are: in XML they are what they are
    lines = (line.strip("\r\0") for line in text.split("\n"))
    text = "\n".join(unwrapped(lines, _is_markup))
    chunks = [parse_xml(chunk.encode(), source=str(path)) for chunk in _chunks(text, tag)]
    return chunks or [parse_xml(text.encode(), source=str(path))]


def _is_markup(text: str) -> bool:
    return text.lstrip().startswith("<")


def _chunks(text: str, tag: str) -> Iterator[str]:
    """Yield each element with a tag, behind as many empty lines as there are lines before it."""
    start, last = re.compile(rf"<{tag}(?=[\s/>])"), f"</{tag}>"
    at = lines = 0
    while match := start.search(text, at):
        lines += text.count("\n", at, match.start())
        end = text.find(last, match.start())
        at = len(text) if end < 0 else end + len(last)
        yield "\n" * lines + text[match.start() : at]
        lines += text.count("\n", match.start(), at)


def parse_xml(data: bytes, *, source: str) -> Element:
    """Return the root element; raise InputError with the line of what is wrong."""
    _check_size(data, source)
    builder = _Builder(source)
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise InputError(f"{source}:{error.lineno}: not XML: {expat.ErrorString(error.code)}") from None
    except (LookupError, ValueError) as error:  # an encoding that there is not
        raise InputError(f"{source}: not XML: {error}") from None
    return builder.top.children[0]


def _check_size(data: bytes, source: str) -> None:
    if len(data) > _MOST_BYTES:
        raise InputError(f"{source}: more than {_MOST_BYTES >> 20} MiB; the description of a machine is smaller")


class _Builder:
    """Takes what expat finds."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.top = Element(tag="", line=0)
        self._open = [self.top]
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text

    def _doctype(self, *_: object) -> None:
        line = self.parser.CurrentLineNumber
        raise InputError(f"{self._source}:{line}: document types are not allowed: they can declare entities")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        line = self.parser.CurrentLineNumber
        if len(self._open) > _MOST_LEVELS:
            raise InputError(f"{self._source}:{line}: more than {_MOST_LEVELS} levels of elements")
        element = Element(tag=tag, line=line, attributes=attributes)
        self._open[-1].children.append(element)
        self._open.append(element)

    def _end(self, _: str) -> None:
        self._open.pop()

    def _text(self, text: str) -> None:
        self._open[-1].text += text

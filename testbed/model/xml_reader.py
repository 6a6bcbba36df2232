"""The one XML reader: elements with the lines they stand on, and nothing of XML that can harm.

A document type is refused, and with it every entity of one's own; a file that is large or deeply nested is too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.parsers import expat

from testbed.model.errors import InputError

if TYPE_CHECKING:
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


def read_xml(path: Path) -> Element:
    """Return the root element of a file; raise InputError with the line of what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_xml(data, source=str(path))


def parse_xml(data: bytes, *, source: str) -> Element:
    """Return the root element; raise InputError with the line of what is wrong."""
    if len(data) > _MOST_BYTES:
        raise InputError(f"{source}: more than {_MOST_BYTES >> 20} MiB; a description of a machine is smaller")
    builder = _Builder(source)
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise InputError(f"{source}:{error.lineno}: not XML: {expat.ErrorString(error.code)}") from None
    except (LookupError, ValueError) as error:  # an encoding that there is not
        raise InputError(f"{source}: not XML: {error}") from None
    return builder.top.children[0]


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
        raise InputError(f"{self._source}:{line}: a document type is not read: it can declare entities")

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

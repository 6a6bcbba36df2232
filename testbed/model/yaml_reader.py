"""The one YAML reader: safe, and every error names file, line and path.

A `Document` is the parsed value together with the line each node came from, so that a later validation error
("devices.0.driver: got int, wanted str") can still point at the mistake.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from testbed.model.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)
NodePath = tuple[str | int, ...]

#: a template that expands to more than this is a mistake, not a machine
MAX_NODES = 20_000


@dataclass(frozen=True, kw_only=True)
class Document:
    """A parsed YAML document and the lines of its nodes."""

    source: str  #: what to call the text in messages, usually its path
    value: Any
    lines: dict[NodePath, int] = field(repr=False)  #: path of a node -> its 1-based line

    def where(self, path: NodePath = ()) -> str:
        """Return `file:line` of the node at `path`, or of its nearest parent that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}:{self.lines.get(path, 1)}"

    def validate(self, model: type[Model]) -> Model:
        """Return the document as a `model`; raise InputError naming line, path, got and wanted."""
        try:
            return model.model_validate(self.value)
        except ValidationError as error:
            problems = [self._problem(details) for details in error.errors()]
            raise InputError("\n".join(problems), hint=_fields_hint(model, error)) from None

    def _problem(self, details: ErrorDetails) -> str:
        path = tuple(details["loc"])
        dotted = ".".join(str(step) for step in path) or "document"
        got = details["input"]
        return f"{self.where(path)}: {dotted}: {details['msg']} (got {type(got).__name__} {_short(got)})"


def read_yaml(path: Path) -> list[Document]:
    """Read every document of a YAML file; raise InputError if it is missing, unreadable or not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str, first_line: int = 1) -> list[Document]:
    """Parse YAML text; `first_line` is the line of `source` on which `text` begins."""
    try:
        return [_document(node, source, first_line - 1) for node in _nodes(text)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = (mark.line if mark else 0) + first_line
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise InputError(f"{source}:{line}: not valid YAML: {what}") from None
    except RecursionError:
        raise InputError(f"{source}: not valid YAML: nested too deeply") from None
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        # PyYAML's constructors trip over a tag whose text does not fit it, such as `!!bool maybe`
        raise InputError(f"{source}: not valid YAML: {error}") from None


def _nodes(text: str) -> list[yaml.Node]:
    """Return the root node of each document, found by libyaml where PyYAML has it: ten times as fast.

    PyYAML's own parser has the last word on what libyaml refuses: its messages are clearer, and the same everywhere. It
    reads texts with tags too: to libyaml `!` alone is an empty text, not nothing.
    """
    if yaml.__with_libyaml__ and "!" not in text:
        with contextlib.suppress(yaml.YAMLError):
            return list(yaml.compose_all(text, Loader=yaml.CSafeLoader))
    return list(yaml.compose_all(text, Loader=yaml.SafeLoader))


def _document(root: yaml.Node | None, source: str, offset: int) -> Document:
    lines: dict[NodePath, int] = {}
    if root is None:
        return Document(source=source, value=None, lines=lines)
    _collect(root, (), lines, source, offset)
    loader = yaml.SafeLoader("")
    try:
        value = loader.construct_document(root)
    finally:
        loader.dispose()
    return Document(source=source, value=value, lines=lines)


def _collect(node: yaml.Node, path: NodePath, lines: dict[NodePath, int], source: str, offset: int) -> None:
    """Note the line of every node, and refuse duplicate keys and alias bombs."""
    line = node.start_mark.line + 1 + offset
    lines[path] = line
    if len(lines) > MAX_NODES:
        raise InputError(f"{source}:{line}: more than {MAX_NODES} nodes; is an alias repeated without end?")
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _collect(item, (*path, index), lines, source, offset)
    elif isinstance(node, yaml.MappingNode):
        for key, item in node.value:
            step = str(key.value)
            if (*path, step) in lines and key.tag != "tag:yaml.org,2002:merge":
                raise InputError(f"{source}:{key.start_mark.line + 1 + offset}: {step!r} is given twice")
            _collect(item, (*path, step), lines, source, offset)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fields_hint(model: type[BaseModel], error: ValidationError) -> str | None:
    unknown = any(details["type"] == "extra_forbidden" and len(details["loc"]) == 1 for details in error.errors())
    return f"known keys are: {', '.join(model.model_fields)}" if unknown else None

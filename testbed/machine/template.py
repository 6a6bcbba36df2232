"""Machine templates: a declaration of parameters, `---`, then Jinja that renders to the YAML of a MachineSpec.

The declaration is plain YAML, so that parameters can be listed, checked and typed without rendering anything. The
template is rendered in Jinja's sandbox with StrictUndefined.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import jinja2
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict

from testbed.model.catalog import TEMPLATES, unknown
from testbed.model.device_kind import device_kind
from testbed.model.errors import InputError
from testbed.model.parameter import Parameter  # noqa: TC001 (pydantic reads it)
from testbed.model.spec import MachineSpec
from testbed.model.yaml_reader import Document, parse_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jinja2.runtime import Context

_SEPARATOR = "\n---\n"
#: operands of `*` and `**` in a template
_LARGEST, _LARGEST_POWER = 1 << 40, 64
_LONGEST = 1 << 16
_WIDE_FORMAT = re.compile(r"%[^a-zA-Z%]*(?:[0-9]{4}|\*)")


class _Declaration(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    description: str
    parameters: dict[str, Parameter]


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A machine as its template renders it."""

    text: str  #: YAML
    spec: MachineSpec


@dataclass(frozen=True, kw_only=True)
class Template:
    """A machine template, read but not rendered."""

    name: str
    path: Path
    description: str
    parameters: Mapping[str, Parameter]
    body: str
    body_line: int  #: the line of the file on which the body begins

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter's value, given or default; raise InputError for an unknown or wrong one."""
        # a template may append to a list
        values = {name: deepcopy(parameter.default) for name, parameter in self.parameters.items()}
        for name, value in given.items():
            if name not in self.parameters:
                raise unknown(f"parameter of machine {self.name}:", name, self.parameters)
            try:
                values[name] = self.parameters[name].checked(value)
            except ValueError as error:
                message = f"machine {self.name}: parameter {name}: {error}"
                raise InputError(message, hint=self.parameters[name].doc) from None
        return values

    def parse(self, name: str, text: str) -> Any:
        """Return the value of `-p name=text` in the parameter's type; raise InputError if it has none."""
        if name not in self.parameters:
            raise unknown(f"parameter of machine {self.name}:", name, self.parameters)
        try:
            return self.parameters[name].parse(text)
        except ValueError as error:
            wanted = self.parameters[name].type
            raise InputError(
                f"machine {self.name}: parameter {name}: got {text!r}, wanted {wanted} ({error})"
            ) from None

    def render(self, given: Mapping[str, Any]) -> Rendered:
        """Return the machine for these parameters; raise InputError naming the line and path of a mistake."""
        text = self._text(given)
        documents = parse_yaml(text, source=f"{self.path} (rendered)")
        if len(documents) != 1:
            raise InputError(f"{self.path}: renders to {len(documents)} YAML documents, wanted 1")
        return Rendered(text=text, spec=documents[0].validate(MachineSpec))

    def spec(self, given: Mapping[str, Any]) -> MachineSpec:
        """Return the description of the machine for these parameters; raise as `render` does."""
        return self.render(given).spec

    def _text(self, given: Mapping[str, Any]) -> str:
        try:
            return _compiled(self.path.parent, self.body).render(self.values(given))
        except jinja2.TemplateSyntaxError as error:
            # an imported file has its own name and lines
            where = f"{error.filename}:{error.lineno}" if error.filename else self._where(error.lineno)
            raise InputError(f"{where}: {error.message}") from None
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
            RuntimeError,
        ) as error:
            raise InputError(f"{self._where(_line_in_body(error))}: {error}", hint=self._hint()) from None

    def _where(self, body_line: int | None) -> str:
        return f"{self.path}:{body_line + self.body_line - 1}" if body_line else str(self.path)

    def _hint(self) -> str:
        return f"declared parameters are: {', '.join(self.parameters)}"


def load_template(name: str) -> Template:
    """Read the template called `name`; raise InputError if there is none or its declaration is wrong."""
    return read_template(TEMPLATES.find(name), name)


def read_template(path: Path, name: str) -> Template:
    """Read a template file; raise InputError if its declaration is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    return _parsed(name, path, text)


@lru_cache
def _parsed(name: str, path: Path, text: str) -> Template:
    """Return the template in a text; each cell of a run asks for it several times."""
    head, separator, body = text.partition(_SEPARATOR)
    if not separator:
        raise InputError(f"{path}: has no line '---' between the declaration and the template")
    document = _declaration(head, path)
    declared = document.validate(_Declaration)
    for key, parameter in declared.parameters.items():
        try:
            parameter.checked(parameter.default)
        except ValueError as error:
            raise InputError(f"{document.where(('parameters', key))}: default of {key}: {error}") from None
    return Template(
        name=name,
        path=path,
        description=declared.description,
        parameters=declared.parameters,
        body=body,
        body_line=head.count("\n") + 3,
    )


def _declaration(head: str, path: Path) -> Document:
    documents = parse_yaml(head, source=str(path))
    if len(documents) != 1:
        raise InputError(f"{path}:1: a template begins with one YAML document of `description` and `parameters`")
    return documents[0]


@lru_cache
def _environment(folder: Path) -> _Sandbox:
    """Return what compiles the templates of a folder; an imported file that has changed since is compiled anew."""
    environment = _Sandbox(
        # a user's template can import the shipped parts.j2
        loader=jinja2.FileSystemLoader([folder, TEMPLATES.shipped]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(refuse=_refuse, kind=device_kind)
    return environment


@lru_cache
def _compiled(folder: Path, body: str) -> jinja2.Template:
    """Return the body of a template in a folder, compiled: that takes ten times as long as rendering it."""
    return _environment(folder).from_string(body)


class _Sandbox(SandboxedEnvironment):
    """Jinja's sandbox, in which no operator makes a value that fills the memory."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply, raise, format; raise ValueError for what a machine's description never needs."""
        if operator == "%":
            if isinstance(left, str) and _WIDE_FORMAT.search(left):
                raise ValueError("% makes too long a text")
            return super().call_binop(context, operator, left, right)
        texts = [each for each in (left, right) if isinstance(each, str | list | tuple)]
        numbers = [abs(each) for each in (left, right) if isinstance(each, int | float)]
        limit = _LARGEST_POWER if operator == "**" else _LONGEST if texts else _LARGEST
        if any(number > limit for number in numbers[-1:]) or any(number > _LARGEST for number in numbers):
            raise ValueError(f"the result of {operator} is too large")
        return super().call_binop(context, operator, left, right)


def _refuse(message: str) -> NoReturn:
    """Let a template refuse a combination of parameters."""
    raise ValueError(message)


def _line_in_body(error: BaseException) -> int | None:
    """Return the line of the innermost frame of the template's own text (Jinja rewrites its tracebacks)."""
    line, trace = None, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line

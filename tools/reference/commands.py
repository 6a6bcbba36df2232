"""Every command with its arguments and options, as its function declares them to typer."""

from __future__ import annotations

import importlib
import inspect
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from testbed.cli.commands import COMMANDS
from tools.reference.markdown import line, plain, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TYPES = {"int": "NUMBER", "float": "NUMBER", "Path": "PATH"}


@dataclass(frozen=True)
class _Parameter:
    """An argument or option of a command."""

    name: str
    info: ArgumentInfo | OptionInfo
    type: Any
    default: Any

    @property
    def repeated(self) -> bool:
        """Return whether it may be given more than once."""
        return get_origin(self.type) is list

    @property
    def metavar(self) -> str:
        """Return what stands for its value."""
        kind = get_args(self.type)[0] if self.repeated else self.type
        if self.info.metavar:
            return self.info.metavar
        if get_origin(kind) is Literal:
            return "|".join(get_args(kind))
        if hasattr(kind, "__members__"):
            return "|".join(str(each.value) for each in kind)
        return self.name.upper() if isinstance(self.info, ArgumentInfo) else _TYPES.get(kind.__name__, "TEXT")

    @property
    def names(self) -> tuple[str, ...]:
        """Return how an option is written."""
        # in Annotated there is no default, and typer keeps the first name in its place
        given = (self.info.default, *(self.info.param_decls or ()))
        names = tuple(each for each in given if isinstance(each, str) and each.startswith("-"))
        return names or (f"--{self.name.replace('_', '-')}",)


def commands() -> Iterator[str]:
    """Yield the page of all commands."""
    yield from ("# Commands", "", "`--help` after a command says the same.", "")
    yield from table(
        ("command", "what it does"),
        ((f"[`{name}`](#testbed-{name})", plain(lazy.help)) for name, lazy in COMMANDS.items()),
    )
    for name, lazy in COMMANDS.items():
        found = getattr(importlib.import_module(f"testbed.cli.{lazy.module}"), lazy.name)
        yield from (f"## testbed {name}", "")
        if isinstance(found, typer.Typer):
            yield from (plain(lazy.help), "")
            for each in found.registered_commands:
                function: Any = each.callback
                own = each.name or function.__name__.rpartition(".")[2].replace("_", "-")
                yield from (f"### testbed {name} {own}", "")
                yield from _command(f"testbed {name} {own}", function, (each.epilog or "").splitlines())
        else:
            yield from _command(f"testbed {name}", found, list(lazy.examples))


def _command(path: str, function: Callable[..., Any], examples: list[str]) -> Iterator[str]:
    parameters = list(_parameters(function))
    arguments = [each for each in parameters if isinstance(each.info, ArgumentInfo)]
    options = [each for each in parameters if isinstance(each.info, OptionInfo) and not each.info.hidden]
    shown = [each.metavar if each.default is inspect.Parameter.empty else f"[{each.metavar}]" for each in arguments]
    yield from ("```text", " ".join((path, *shown, *(["[OPTIONS]"] if options else []))), "```", "")
    yield from (plain(function.__doc__), "")
    if any(each.info.help for each in arguments):
        rows = ((f"`{each.metavar}`", plain(each.info.help)) for each in arguments if each.info.help)
        yield from table(("argument", "what it is"), rows)
    if options:
        yield from table(("option", "what it does"), map(_option, options))
    lines = [each.removeprefix("Example: ").strip() for each in map(plain, examples)]
    if lines := [each for each in lines if each.startswith("testbed")]:
        yield from ("```console", *(f"$ {each}" for each in lines), "```", "")


def _parameters(function: Callable[..., Any]) -> Iterator[_Parameter]:
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, *marks = get_args(hints[name])
        info = next(each for each in marks if isinstance(each, ArgumentInfo | OptionInfo))
        if get_origin(kind) in (Union, types.UnionType):
            (kind,) = (each for each in get_args(kind) if each is not types.NoneType)
        yield _Parameter(name, info, kind, parameter.default)


def _option(option: _Parameter) -> tuple[str, str]:
    value = "" if option.type is bool else f" {option.metavar}"
    shown = isinstance(option.default, str | int | float | Path) and option.default not in ("", False)
    default = f" Default: `{option.default}`." if shown else ""
    again = " May be repeated." if option.repeated else ""
    return f"`{', '.join(option.names)}{value}`", line(f"{plain(option.info.help)}{default}{again}")

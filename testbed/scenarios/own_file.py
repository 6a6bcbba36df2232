"""A scenario file of a user's own: how it is loaded, and what is wrong with it, told with file and line.

What can be seen without running it is told before a guest boots: options it reads and does not declare, judgements and
findings that lack something. The rest is told as it comes, in the same words.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from testbed.model.catalog import unknown
from testbed.model.errors import BedError, InputError
from testbed.model.outcome import Finding, Judgement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path
    from types import ModuleType

    from pydantic_core import ErrorDetails

#: what a scenario makes, and what must be given for it
_MADE: dict[str, type[BaseModel]] = {"Judgement": Judgement, "Finding": Finding}
_WANTED = {"string": "a text", "int": "a whole number", "float": "a number", "bool": "True or False"}


def load_file(path: Path) -> ModuleType:
    """Import a user's file under a name of its own; raise InputError, with the line, if it cannot be."""
    name = f"testbed_user_scenarios.{path.resolve().as_posix().replace('/', '_').removesuffix('.py')}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"scenario {path}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno}: {error.msg}") from None
    except Exception as error:
        raise mistake(error, path) from None
    return module


def check_file(path: Path, declared: dict[str, Collection[str]]) -> None:
    """Raise InputError for what the file's text already shows to be wrong; `declared` has each function's options."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.AsyncFunctionDef) and node.name in declared:
            _check_options(path, node, declared[node.name])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _MADE:
            _check_made(path, node, _MADE[node.func.id])


def mistake(error: Exception, path: Path) -> InputError:
    """Return an exception of a user's code in the bed's words, with the line of the file it came by last."""
    where = f"{path}:{line_of(error, path)}"
    if isinstance(error, BedError):
        return InputError(f"{where}: {error.message}", hint=error.hint)
    if isinstance(error, ValidationError):
        return InputError(f"{where}: {error.title}: {'; '.join(map(_problem, error.errors()))}")
    return InputError(f"{where}: {type(error).__name__}: {error}")


def line_of(error: BaseException, path: Path) -> int:
    """Return the line of a file that an exception came by last; 1 if by none."""
    line, trace = 1, error.__traceback__
    while trace:
        # importlib makes the name absolute
        if trace.tb_frame.f_code.co_filename == str(path.absolute()):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def raised_in(error: BaseException, path: Path) -> bool:
    """Return whether an exception was raised by a line of the file, and not by what that called."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename == str(path.absolute())


def _check_options(path: Path, function: ast.AsyncFunctionDef, declared: Collection[str]) -> None:
    for line, name in _options_read(function):
        if name not in declared:
            error = unknown(f"{path}:{line}: option of scenario {function.name}:", name, declared)
            raise InputError(error.message, hint=f"declare it: @scenario(options={{{name!r}: Parameter(...)}})")


def _options_read(function: ast.AsyncFunctionDef) -> Iterator[tuple[int, str]]:
    """Yield each `trial.options["NAME"]` of a function, with its line."""
    trial = function.args.args[0].arg if function.args.args else ""
    for node in ast.walk(function):
        match node:
            case ast.Subscript(
                value=ast.Attribute(value=ast.Name(id=name), attr="options"), slice=ast.Constant(value=str(option))
            ) if name == trial:
                yield node.lineno, option


def _check_made(path: Path, call: ast.Call, model: type[BaseModel]) -> None:
    if call.args:
        raise InputError(f"{path}:{call.lineno}: {model.__name__} takes its values by name: {_names(model)}")
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    for name, value in given.items():
        if name not in model.model_fields:
            error = unknown(f"{path}:{call.lineno}: {model.__name__}:", name, model.model_fields)
            raise InputError(error.message, hint=error.hint)
        if name == "findings" and isinstance(value, ast.Tuple | ast.List) and not value.elts:
            raise InputError(f"{path}:{value.lineno}: {_problem_of('findings', 'too_short', {})}")
    # what stands in a mapping is not seen here
    if all(keyword.arg for keyword in call.keywords):
        lacking = [name for name, field in model.model_fields.items() if field.is_required() and name not in given]
        if lacking:
            raise InputError(f"{path}:{call.lineno}: {model.__name__} lacks {', '.join(lacking)}")


def _names(model: type[BaseModel]) -> str:
    return ", ".join(f"{name}=" for name in model.model_fields)


def _problem(details: ErrorDetails) -> str:
    name = ".".join(str(step) for step in details["loc"])
    got = details["input"]
    problem = _problem_of(name, details["type"], details.get("ctx", {}))
    needless = details["type"] in ("missing", "too_short")
    return problem if needless else f"{problem}, got {type(got).__name__} {got!r:.60}"


def _problem_of(name: str, kind: str, context: dict[str, Any]) -> str:
    """Say what is wrong with a value, by pydantic's name for it."""
    if kind == "missing":
        return f"{name} is missing"
    if kind == "too_short" and name == "findings":
        return "a judgement needs at least one finding, with the evidence it rests on"
    if kind == "extra_forbidden":
        return f"{name} does not exist"
    if kind == "string_too_short":
        return f"{name}: wanted a text that is not empty"
    if "expected" in context:
        return f"{name}: wanted {context['expected']}"
    first = kind.partition("_")[0]
    return f"{name}: wanted {_WANTED.get(first, f'a {first}')}"

"""The keys of the YAML files that are read, and the verbs that may stand in them."""

from __future__ import annotations

import inspect
import json
import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from testbed.campaign.case import CaseFile, CaseRow
from testbed.campaign.matrix.file import Expect, Include, MatrixFile, Row, Unstable
from testbed.model.outcome import Because
from testbed.model.version_rule import VersionRule
from testbed.steps import condition
from testbed.steps.file import StepFileKeys
from testbed.steps.reader import CONDITION_KEYS, STEP_KEYS
from testbed.verbs.verbs import VERBS
from tools.reference.markdown import doc, table, words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def files() -> Iterator[str]:
    """Yield the page of case, matrix and step files."""
    yield from (
        "# Files",
        "",
        "What may stand in the YAML files that are read; an unknown key is an error that names its line.",
        "",
    )
    for title, what, models in (
        ("Cases", "A case is a file in `cases/`, or given by its path.", (CaseFile, CaseRow, VersionRule, Because)),
        ("Matrices", "`testbed matrix FILE.yaml`.", (MatrixFile, Row, Include, Expect, Unstable)),
        ("Steps", "A scenario as [steps](../steps.md).", (StepFileKeys,)),
    ):
        yield from (f"## {title}", "", what, "")
        for model in models:
            if len(models) > 1:
                yield from (f"### {words(model.__name__)}", "", doc(model), "")
            yield from _fields(model)
    yield from ("### A step", "", "A line of the prompt, or a mapping with one of these keys.", "")
    yield from table(("key", "may stand beside it"), _beside(STEP_KEYS))
    yield from ("### A condition", "", "What a `wait`, an `expect` or an `expect-not` names.", "")
    kinds: list[Any] = [each for _, each in inspect.getmembers(condition, inspect.isclass)]
    said = {each.key: doc(each) for each in kinds if isinstance(getattr(each, "key", None), str)}
    yield from table(
        ("key", "what is looked at", "may stand beside it"),
        ((key, said[key.strip("`")], beside) for key, beside in _beside(CONDITION_KEYS)),
    )
    yield from ("### Verbs", "", "The lines of the prompt, of its scripts and of steps ([more](../verbs.md)).", "")
    yield from table(("line", "what it does"), ((f"`{verb.usage}`", verb.does) for verb in VERBS.values()))


def _beside(keys: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for key, others in keys.items():
        yield f"`{key}`", ", ".join(f"`{each}`" for each in others) or "-"


def _fields(model: type[BaseModel]) -> Iterator[str]:
    rows = []
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{_default(field)}`"
        rows.append((f"`{field.alias or name}`", _type(field.annotation), default, field.description or ""))
    yield from table(("key", "type", "default", "what it is"), rows)


def _default(field: Any) -> str:
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    return json.dumps(value, default=str) if value != () else "[]"


_NAMES = {"str": "text", "int": "number", "float": "number", "bool": "true or false", "dict": "mapping"}


def _type(annotation: Any) -> str:
    """Return a type as a writer of YAML says it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(each) for each in arguments if each is not types.NoneType))
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    return _plain_type(origin or annotation, arguments)


def _plain_type(kind: Any, arguments: Sequence[Any]) -> str:
    if kind is Literal or hasattr(kind, "__members__"):
        return ", ".join(f"`{each}`" for each in (arguments or kind))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return words(kind.__name__)
    return _NAMES.get(getattr(kind, "__name__", ""), "anything")

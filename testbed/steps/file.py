"""Step file: a question in YAML, `question`, `options`, `modules` and `steps`, read and checked.

A file is checked with the defaults of its options, and read once more with the values of a trial.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from testbed.model.catalog import unknown
from testbed.model.errors import InputError
from testbed.model.parameter import Parameter  # noqa: TC001 (pydantic reads it)
from testbed.model.value_text import value_text
from testbed.model.yaml_reader import Document, NodePath, read_yaml
from testbed.steps.reader import read_steps
from testbed.steps.step import Expect, Line, Repeat, Wait

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from testbed.steps.step import Step

_OPTION = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_OPTION_NAME = re.compile(r"[a-z][a-z0-9_]*")
#: what can stand in a line
_OPTION_TYPES = ("str", "int", "bool", "size")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class StepFileKeys(_Model):
    """What a file says."""

    kind: Literal["steps"] = Field(default="steps", description="what the file is")
    question: str = Field(min_length=1, description="what is asked, in one sentence")
    options: dict[str, Parameter] = Field(default_factory=dict, description="what `-s NAME=VALUE` sets")
    modules: list[str] = Field(default_factory=list, description="drivers loaded before the guest is saved")
    drivers: bool = Field(default=True, description="whether the drivers of all devices are loaded too")
    fresh: bool = Field(default=False, description="the guest is booted each time, never resumed")
    warp_safe: bool = Field(
        default=False, description="the host times nothing after the stimulus, so idle guest time may be skipped"
    )
    steps: list[Any] = Field(min_length=1, description="one after the other, with one stimulus among them")


@dataclass(frozen=True, kw_only=True)
class StepFile:
    """A scenario written as steps."""

    path: Path
    document: Document
    question: str
    options: Mapping[str, Parameter]
    modules: tuple[str, ...]
    drivers: bool  #: whether the guest is to drive all its devices before the first step
    fresh: bool
    warp_safe: bool

    def steps(self, values: Mapping[str, Any]) -> tuple[Step, ...]:
        """Return the steps with these values of the options; raise InputError, with the line, for what is wrong."""
        filled = _filled(self.document, ("steps",), self.document.value["steps"], values)
        return read_steps(self.document, ("steps",), filled)


def is_step_file(path: Path) -> bool:
    """Return whether a YAML file holds steps; raise InputError if it is not to be read."""
    documents = read_yaml(path)
    value = documents[0].value if documents else None
    return isinstance(value, dict) and (value.get("kind") == "steps" or "steps" in value)


def load_steps(path: Path) -> StepFile:
    """Read and check a file of steps; raise InputError, with the line, for the first mistake."""
    document = _one_document(path)
    file = document.validate(StepFileKeys)
    for name, option in file.options.items():
        _check_option(document, name, option)
    loaded = StepFile(
        path=path,
        document=document,
        question=" ".join(file.question.split()),
        options=file.options,
        modules=tuple(file.modules),
        drivers=file.drivers,
        fresh=file.fresh,
        warp_safe=file.warp_safe,
    )
    steps = loaded.steps({name: option.default for name, option in file.options.items()})
    _check_used(document, file.options)
    _check_order(document, steps)
    _check_warp(loaded, steps)
    return loaded


def _one_document(path: Path) -> Document:
    documents = read_yaml(path)
    if len(documents) != 1:
        raise InputError(f"{path}: holds {len(documents)} YAML documents, a scenario is one")
    return documents[0]


def _check_option(document: Document, name: str, option: Parameter) -> None:
    where = document.where(("options", name))
    if not _OPTION_NAME.fullmatch(name):
        raise InputError(f"{where}: option {name!r}: wanted a name of small letters, digits and _")
    if option.type not in _OPTION_TYPES:
        raise InputError(f"{where}: option {name}: type {option.type}: wanted one of {', '.join(_OPTION_TYPES)}")
    if problem := option.problem(option.default):
        raise InputError(f"{where}: option {name}: default: {problem}", hint=option.doc)


def _check_used(document: Document, options: Mapping[str, Parameter]) -> None:
    text = repr(document.value["steps"])
    used = {match[1] for match in _OPTION.finditer(text)}
    for name in options:
        if name not in used:
            where, hint = document.where(("options", name)), f"write {{{{{name}}}}} where it is wanted"
            raise InputError(f"{where}: option {name} is used in no step", hint=hint)


def _check_order(document: Document, steps: Sequence[Step]) -> None:
    """Raise InputError unless there is one stimulus, and something is expected of what comes of it."""
    every = list(_each(steps))
    places = [index for index, step in enumerate(every) if isinstance(step, Line) and step.stimulus]
    if len(places) != 1:
        where = _at(document, every[places[1]]) if places else document.where(("steps",))
        found = f"is a second stimulus; the first is {every[places[0]].where}" if places else "no step is the stimulus"
        hint = "one line, the one whose answer is judged: - stimulus: unplug dev1"
        raise InputError(f"{where}: {found}", hint=hint)
    if not any(_judges(step) for step in every[places[0] :]):
        raise InputError(
            f"{_at(document, every[places[0]])}: nothing is expected after the stimulus",
            hint="what would be good? for example: - expect: deleted",
        )


def _check_warp(file: StepFile, steps: Sequence[Step]) -> None:
    for step in _each(steps):
        if file.warp_safe and isinstance(step, Wait) and step.of_host:
            raise InputError(
                f"{_at(file.document, step)}: in warped time, one host second is minutes of guest time",
                hint="leave out warp_safe, or wait guest seconds",
            )


def _at(document: Document, step: Step) -> str:
    """Return a step's position, with the file's folder."""
    folder, slash, _ = document.source.rpartition("/")
    return f"{folder}{slash}{step.where}"


def _judges(step: Step) -> bool:
    return isinstance(step, Expect) or (isinstance(step, Line) and step.fails is not None)


def _each(steps: Sequence[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        if isinstance(step, Repeat):
            yield from _each(step.steps)


def _filled(document: Document, path: NodePath, value: Any, values: Mapping[str, Any]) -> Any:
    """Return a value with those of the options in it; a text that is one option alone is of that option's type."""
    if isinstance(value, list):
        return [_filled(document, (*path, index), each, values) for index, each in enumerate(value)]
    if isinstance(value, dict):
        return {key: _filled(document, (*path, str(key)), each, values) for key, each in value.items()}
    if not isinstance(value, str):
        return value
    for match in _OPTION.finditer(value):
        if match[1] not in values:
            error = unknown(f"{document.where(path)}: option", match[1], values)
            raise InputError(error.message, hint=error.hint)
    alone = _OPTION.fullmatch(value)
    if alone and not isinstance(values[alone[1]], bool):
        return values[alone[1]]
    return _OPTION.sub(lambda match: _option_text(values[match[1]]), value)


def _option_text(value: Any) -> str:
    return value if isinstance(value, str) else value_text(value)

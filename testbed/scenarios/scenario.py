"""Scenario: a named behaviour question and the async function that answers it; and where they are found."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import testbed.scenarios
from testbed.model.catalog import unknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from testbed.model.outcome import Judgement
    from testbed.scenarios.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One behaviour question."""

    name: str
    question: str
    run: Callable[[Trial], Awaitable[Judgement]]


def scenario(run: Callable[[Trial], Awaitable[Judgement]]) -> Scenario:
    """Make a scenario of an async function: its name with dashes, its docstring's first line as the question."""
    name = getattr(run, "__name__", "scenario").replace("_", "-")
    return Scenario(name=name, question=(inspect.getdoc(run) or "").partition("\n")[0], run=run)


@cache
def all_scenarios() -> dict[str, Scenario]:
    """Return every shipped scenario by name."""
    found = {}
    for info in pkgutil.iter_modules(testbed.scenarios.__path__, "testbed.scenarios."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, Scenario):
                found[value.name] = value
    return dict(sorted(found.items()))


def find_scenario(name: str) -> Scenario:
    """Return the scenario of this name; raise InputError with those there are."""
    if name not in all_scenarios():
        raise unknown("scenario", name, all_scenarios())
    return all_scenarios()[name]

"""Scenario: a named behaviour question and the async function that answers it; and where they are found."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.model.catalog import SCENARIOS, existing, is_path, unknown
from testbed.model.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import ModuleType

    from testbed.guest.level2 import Level2
    from testbed.model.outcome import Judgement
    from testbed.model.parameter import Parameter
    from testbed.scenarios.trial import Trial

    Run = Callable[[Trial], Awaitable[Judgement]]
    Lasts = Callable[[Mapping[str, Any]], float]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One behaviour question."""

    name: str
    question: str
    run: Run
    #: drivers it needs, loaded before it begins
    modules: tuple[str, ...] = ()
    #: guest time may be warped: nothing of the host's (I/O on its files, traffic) is timed after the stimulus
    warp_safe: bool = False
    #: it asks about the boot or what was there at it, so a saved state must not stand in
    fresh: bool = False
    #: what can be chosen of it: `-s NAME=VALUE`
    options: Mapping[str, Parameter] = field(default_factory=dict)
    #: a machine that runs in the guest, idle, when it begins: `trial.guest.level2`
    level2: Level2 | None = None
    #: about how many wall seconds it takes with these options from a saved guest, where that differs from most; the
    #: longest run of a campaign goes first
    lasts: Lasts | None = None

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return every option's value, given or default; raise InputError for an unknown or wrong one."""
        values = {name: option.default for name, option in self.options.items()}
        for name, value in given.items():
            option = self._option(name)
            try:
                values[name] = option.checked(value)
            except ValueError as error:
                raise InputError(f"scenario {self.name}: option {name}: {error}", hint=option.doc) from None
        return values

    def parse(self, name: str, text: str) -> Any:
        """Return the value of `-s name=text` in the option's type; raise InputError if it has none."""
        option = self._option(name)
        try:
            return option.parse(text)
        except ValueError:
            wanted = f"got {text!r}, wanted {option.type}"
            raise InputError(f"scenario {self.name}: option {name}: {wanted}", hint=option.doc) from None

    def _option(self, name: str) -> Parameter:
        if name not in self.options:
            raise unknown(f"option of scenario {self.name}:", name, self.options)
        return self.options[name]


def scenario(
    *,
    modules: Sequence[str] = (),
    warp_safe: bool = False,
    fresh: bool = False,
    options: Mapping[str, Parameter] | None = None,
    level2: Level2 | None = None,
    lasts: Lasts | None = None,
) -> Callable[[Run], Scenario]:
    """Make a scenario of an async function: its name with dashes, its docstring's first line as the question."""

    def made(run: Run) -> Scenario:
        name = getattr(run, "__name__", "scenario").replace("_", "-")
        question = (inspect.getdoc(run) or "").partition("\n")[0]
        return Scenario(
            name=name,
            question=question,
            run=run,
            modules=tuple(modules),
            warp_safe=warp_safe,
            fresh=fresh,
            options=options or {},
            level2=level2,
            lasts=lasts,
        )

    return made


def all_scenarios() -> dict[str, Scenario]:
    """Return every scenario by name; the user's own go before the shipped ones."""
    found: dict[str, Scenario] = {}
    for path in SCENARIOS.paths().values():
        shipped = path.parent == SCENARIOS.shipped
        for each in scenarios_in(path):
            if not (shipped and each.name in found):
                found[each.name] = each
    return dict(sorted(found.items()))


def find_scenario(name: str) -> Scenario:
    """Return the scenario of this name, or the only one of a `.py` file; `FILE.py:NAME` names one of several.

    Raises InputError with those there are.
    """
    path, _, wanted = name.partition(":")
    if is_path(path, SCENARIOS.suffix):
        held = {each.name: each for each in scenarios_in(existing(Path(path), "scenario"))}
        if wanted in held:
            return held[wanted]
        if wanted or len(held) != 1:
            raise unknown(f"{path}: scenario", wanted, held)
        return next(iter(held.values()))
    known = all_scenarios()
    if name not in known:
        raise unknown("scenario", name, known)
    return known[name]


@cache
def scenarios_in(path: Path) -> tuple[Scenario, ...]:
    """Return the scenarios that a file defines; raise InputError if it cannot be imported."""
    module = _shipped_module(path) if path.parent == SCENARIOS.shipped else _load(path)
    return tuple(each for each in vars(module).values() if isinstance(each, Scenario) and _defined(each, module))


def _defined(each: Scenario, module: ModuleType) -> bool:
    return each.run.__module__ == module.__name__


def _shipped_module(path: Path) -> ModuleType:
    return importlib.import_module(f"testbed.scenarios.{path.stem}")


def _load(path: Path) -> ModuleType:
    """Import a user's file under a name of its own."""
    name = f"testbed_user_scenarios.{path.resolve().as_posix().replace('/', '_').removesuffix('.py')}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"scenario {path}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(f"{path}:{error.lineno}: {error.msg}") from None
    except Exception as error:
        raise InputError(f"{path}:{_line_of(error, path)}: {type(error).__name__}: {error}") from None
    return module


def _line_of(error: BaseException, path: Path) -> int:
    line, trace = 1, error.__traceback__
    while trace:
        # importlib makes the name absolute
        if trace.tb_frame.f_code.co_filename == str(path.absolute()):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line

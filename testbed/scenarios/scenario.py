"""Scenario: a named behaviour question and the async function that answers it; and where they are found."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from testbed.actions.hotplug import DEADLINE
from testbed.model.catalog import SCENARIOS, STEPS, existing, is_path, unknown
from testbed.model.errors import BedError, InputError
from testbed.model.outcome import Judgement
from testbed.model.parameter import Parameter
from testbed.scenarios.own_file import check_file, load_file, mistake, raised_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from types import ModuleType

    from testbed.guest.level2 import Level2
    from testbed.host.qemu import Qemu
    from testbed.model.spec import MachineSpec
    from testbed.scenarios.trial import Trial
    from testbed.steps.file import StepFile

    Run = Callable[[Trial], Awaitable[Judgement]]
    Lasts = Callable[[Mapping[str, Any]], float]
    Check = Callable[[MachineSpec, Qemu, Mapping[str, Any]], None]

#: guest seconds for which most scenarios wait for an answer
PATIENCE = round(DEADLINE)


#: what can be kept busy: nothing, a disk, a network card, a register
LOADS = ("none", "io", "net", "mmio")
LOAD = Parameter(type="str", default=LOADS[0], doc="what is kept busy meanwhile: a disk, a network card or a register")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One behaviour question."""

    name: str
    question: str
    run: Run
    file: Path  #: what it is written in
    #: drivers it needs, loaded before it begins
    modules: tuple[str, ...] = ()
    #: whether the driver of every device is loaded then too
    drivers: bool = False
    #: guest time may be warped: nothing of the host's (I/O on its files, traffic) is timed after the stimulus
    warp_safe: bool = False
    #: it asks about the boot or what was there at it, so a saved state must not stand in
    fresh: bool = False
    #: the guest suspends to RAM, from which one that was started by PVH does not wake: a bzImage is started, unless the
    #: machine says how
    sleeps: bool = False
    #: it boots a disk by that disk's own loader: nobody of the test bed's answers in its guest
    by_loader: bool = False
    #: what it can keep busy while it asks: choices of its option `load`
    loads: tuple[str, ...] = ()
    #: what can be chosen of it: `-s NAME=VALUE`
    options: Mapping[str, Parameter] = field(default_factory=dict)
    #: a machine that runs in the guest, idle, when it begins: `trial.guest.level2`
    level2: Level2 | None = None
    #: about how many wall seconds it takes with these options from a saved guest, where that differs from most; the
    #: longest run of a campaign goes first
    lasts: Lasts | None = None
    #: raises what is wrong with its options for a machine and a QEMU, before a guest is booted for them
    check: Check = lambda *_: None

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

    def level2_with(self, options: Mapping[str, Any]) -> Level2 | None:
        """Return the machine that runs in its guest, with the QEMU that its option `qemu` names, if it has that."""
        name = options.get("qemu")
        return self.level2.run_by(name) if self.level2 and name else self.level2

    def is_loaded(self, options: Mapping[str, Any]) -> bool:
        """Return whether it keeps something busy: then its time is real, and its guest booted for it.

        Warped time would count the host's latency as the guest's, and a saved guest's pages come back one by one.
        """
        return bool(self.loads) and options["load"] != LOADS[0]

    async def judge(self, trial: Trial) -> Judgement:
        """Ask the question; raise InputError, with the line, for a mistake of a user's own file."""
        try:
            judgement: object = await self.run(trial)
        except BedError:
            raise
        except Exception as error:
            own = self.file.suffix == SCENARIOS.suffix and not self.is_shipped
            if own and (isinstance(error, ValidationError) or raised_in(error, self.file)):
                raise mistake(error, self.file) from error
            raise
        if not isinstance(judgement, Judgement):
            raise InputError(f"{self.file}: scenario {self.name} returned {judgement!r:.60}, wanted a Judgement")
        return judgement

    @property
    def is_shipped(self) -> bool:
        """Return whether it is one of the test bed's own."""
        return self.file.parent == SCENARIOS.shipped

    def _option(self, name: str) -> Parameter:
        if name not in self.options:
            raise unknown(f"option of scenario {self.name}:", name, self.options)
        return self.options[name]


def scenario(
    *wrong: object,
    modules: Sequence[str] = (),
    warp_safe: bool = False,
    fresh: bool = False,
    sleeps: bool = False,
    by_loader: bool = False,
    loads: Sequence[str] = (),
    options: Mapping[str, Parameter] | None = None,
    level2: Level2 | None = None,
    lasts: Lasts | None = None,
    check: Check = lambda *_: None,
    patience: int = 0,
) -> Callable[[Run], Scenario]:
    """Make a scenario of an async function: its name with dashes, its docstring's first line as the question.

    One that waits for `trial.deadline` has `patience`, guest seconds: they are the default of its option `seconds`.
    Raises InputError for what cannot be a scenario.
    """
    if wrong:
        raise InputError("@scenario without parentheses", hint="write @scenario()")

    def made(run: Run) -> Scenario:
        name = run.__name__.replace("_", "-")
        question = (inspect.getdoc(run) or "").partition("\n")[0]
        _check(name, run, question, modules, options or {})
        if wrong_loads := [each for each in loads if each not in LOADS[1:]]:
            raise InputError(f"scenario {name}: loads: got {wrong_loads[0]!r}, wanted some of {', '.join(LOADS[1:])}")
        if lasts is not None and not callable(lasts):
            raise InputError(f"scenario {name}: lasts: got {lasts!r}, wanted a function of the options")
        load = {"load": LOAD.model_copy(update={"choices": [LOADS[0], *loads]})} if loads else {}
        return Scenario(
            name=name,
            question=question,
            run=run,
            file=Path(inspect.getfile(run)),
            modules=tuple(modules),
            warp_safe=warp_safe,
            fresh=fresh,
            sleeps=sleeps,
            by_loader=by_loader,
            loads=tuple(loads),
            options={**(options or {}), **_patience(patience), **load},
            level2=level2,
            lasts=lasts,
            check=check,
        )

    return made


def _patience(seconds: int) -> dict[str, Parameter]:
    doc = "how long to wait for an answer, in guest seconds"
    return {"seconds": Parameter(type="int", default=seconds, min=1, max=600, doc=doc)} if seconds else {}


def _check(name: str, run: Run, question: str, modules: Sequence[str], options: Mapping[str, object]) -> None:
    """Raise InputError for a function, or a declaration, that is not a valid scenario."""
    if not inspect.iscoroutinefunction(run):
        raise InputError(f"scenario {name}: is not an async function")
    if len(inspect.signature(run).parameters) != 1:
        raise InputError(f"scenario {name}: wanted one parameter, the trial")
    if not question:
        raise InputError(f"scenario {name}: has no docstring, whose first line is its question")
    if isinstance(modules, str):
        raise InputError(f"scenario {name}: modules: got str {modules!r}, wanted a list of names")
    for option, declared in options.items():
        if not isinstance(declared, Parameter):
            raise InputError(f"scenario {name}: option {option}: got {declared!r:.60}, wanted a Parameter")
        if problem := declared.problem(declared.default):
            raise InputError(f"scenario {name}: option {option}: default: {problem}", hint=declared.doc)


def all_scenarios() -> dict[str, Scenario]:
    """Return every scenario by name; the user's own go before the shipped ones."""
    return dict(sorted(_scenarios_of([*_shipped_files(), *_own_files()]).items()))


def known_scenario(name: str) -> Scenario | None:
    """Return the scenario of this name, or None; of the shipped files only the one that defines it is imported."""
    return _scenarios_of([*_shipped_files_with(name), *_own_files()]).get(name)


def _scenarios_of(paths: Sequence[Path]) -> dict[str, Scenario]:
    return {each.name: each for path in paths for each in scenarios_in(path)}


def _own_files() -> list[Path]:
    return [path for path in _files() if path.parent != SCENARIOS.shipped]


def _shipped_files() -> list[Path]:
    return [path for path in _files() if path.parent == SCENARIOS.shipped]


def _files() -> list[Path]:
    return [*SCENARIOS.paths().values(), *STEPS.paths().values()]


@cache
def _shipped_files_with(name: str) -> tuple[Path, ...]:
    """Return the shipped file of a scenario: one of steps is called as it is, a function is seen in the text."""
    line = f"\nasync def {name.replace('-', '_')}("
    return tuple(
        path
        for path in SCENARIOS.shipped.iterdir()
        if (path.suffix == STEPS.suffix and path.stem == name)
        or (path.suffix == SCENARIOS.suffix and line in path.read_text(encoding="utf-8"))
    )


def find_scenario(name: str) -> Scenario:
    """Return the scenario of this name, or the only one of a file; `FILE.py:NAME` names one of several.

    Raises InputError with those there are.
    """
    path, _, wanted = name.partition(":")
    if is_path(path, SCENARIOS.suffix) or path.endswith(STEPS.suffix):
        held = {each.name: each for each in scenarios_in(existing(Path(path), "scenario"))}
        if wanted in held:
            return held[wanted]
        if wanted or len(held) != 1:
            raise unknown(f"{path}: scenario", wanted, held)
        return next(iter(held.values()))
    if (found := known_scenario(name)) is None:
        raise unknown("scenario", name, all_scenarios())
    return found


@cache
def scenarios_in(path: Path) -> tuple[Scenario, ...]:
    """Return the scenarios that a file defines; raise InputError if it is not to be read."""
    if path.suffix == STEPS.suffix:
        # only a step file brings the verbs
        from testbed.steps.file import load_steps  # noqa: PLC0415

        return (_steps_scenario(load_steps(path)),)
    shipped = path.parent == SCENARIOS.shipped
    module = _shipped_module(path) if shipped else load_file(path)
    found = tuple(each for each in vars(module).values() if isinstance(each, Scenario) and _defined(each, module))
    if not shipped:
        check_file(path, {each.run.__name__: each.options for each in found})
    return found


def _steps_scenario(file: StepFile) -> Scenario:
    from testbed.steps.run import run_steps  # noqa: PLC0415

    async def run(trial: Trial) -> Judgement:
        return await run_steps(file, trial.guest, trial.options, tell_stimulus=trial.stimulus, progress=trial.progress)

    return Scenario(
        name=file.path.stem,
        question=file.question,
        run=run,
        file=file.path,
        modules=file.modules,
        drivers=file.drivers,
        warp_safe=file.warp_safe,
        fresh=file.fresh,
        options=file.options,
    )


def is_scenario_file(name: str) -> bool:
    """Return whether this names a file with scenarios by its path; raise InputError if there is no such file.

    What is a YAML file and has no steps is a case.
    """
    if name.endswith(STEPS.suffix):
        from testbed.steps.file import is_step_file  # noqa: PLC0415

        return is_step_file(existing(Path(name), "case or scenario"))
    return name.endswith(SCENARIOS.suffix)


def in_a_file(name: str) -> bool:
    """Return whether this names a scenario of a file: `FILE.py:NAME`."""
    return any(f"{shelf.suffix}:" in name for shelf in (SCENARIOS, STEPS))


def _defined(each: Scenario, module: ModuleType) -> bool:
    return each.run.__module__ == module.__name__


def _shipped_module(path: Path) -> ModuleType:
    return importlib.import_module(f"testbed.scenarios.{path.stem}")

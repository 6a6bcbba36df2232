"""From what people write to setups and cells: `q35[hotplug=native]`, `-p`, `-s`, machine types, the id of a cell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol

from testbed.campaign.disk_line import silent, with_disk_line
from testbed.host.qemu import find_qemu
from testbed.host.qemu_catalog import ANY
from testbed.machine.template import load_template
from testbed.model.catalog import TEMPLATES
from testbed.model.errors import InputError
from testbed.model.outcome import Cell
from testbed.model.setup import Setup, read_given, setup_from
from testbed.model.value_text import ValueReader
from testbed.scenarios.scenario import Scenario, find_scenario, known_scenario

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from testbed.image.source import Progress
    from testbed.model.parameter import Parameter

_VERSIONED = re.compile(r"pc-(q35|i440fx)-([0-9]{1,3}(?:\.[0-9]{1,3}){1,3})")


@dataclass(frozen=True, kw_only=True)
class NamedSetup:
    """A setup, and what it was called."""

    label: str
    setup: Setup


def read_setups(
    text: str,
    params: Sequence[str] = (),
    *,
    qemus: Sequence[str] = ("",),
    by_loader: bool = False,
    progress: Progress = silent,
    **given: str,
) -> list[NamedSetup]:
    """Return the setup that a line says, or one for each versioned machine type that it names (`pc-q35-*`).

    `params` are parameters given beside it as NAME=VALUE, `given` fields of the setup; what is empty is not given. The
    machine types are those of `qemus`. With `by_loader` a disk's own loader boots the guest, whatever the setup says.
    Raises InputError for what is wrong, or said twice.
    """

    def named(label: str, setup: Setup) -> NamedSetup:
        whole = completed(_with_params(setup, params), by_loader=by_loader, progress=progress, **given)
        return NamedSetup(label=label, setup=whole)

    name = ValueReader(text, what="machine").name()
    if not _is_machine_type(name):
        _check_is_machine(name, text)
        return [named(text, _read(text))]
    offered = [each for qemu in qemus for each in find_qemu("" if qemu == ANY else qemu).machine_types]
    rest = text[len(name) :]
    return [
        named(f"{kind}{rest}", _typed(_read(f"{template}{rest}"), kind))
        for kind, template in _matching_types(name, offered)
    ]


def read_one_setup(
    text: str, params: Sequence[str] = (), *, by_loader: bool = False, progress: Progress = silent, **given: str
) -> Setup:
    """Return the one setup that a line says; raise InputError as `read_setups` does, or if there are several."""
    qemus = [given.get("qemu", "")]
    named = read_setups(text, params, qemus=qemus, by_loader=by_loader, progress=progress, **given)
    if len(named) > 1:
        types = ", ".join(str(each.setup.parameters["type"]) for each in named)
        raise InputError(f"--machine {text!r}: {len(named)} machine types match", hint=f"name one: {types}")
    return named[0].setup


def read_parameters(template: str, text: str) -> dict[str, Any]:
    """Return the parameters that `NAME=VALUE,NAME=VALUE` says of a template; raise InputError for a wrong one."""
    return _read(f"{template}[{text}]").parameters


def read_scenario(text: str) -> tuple[str, dict[str, Any]]:
    """Return a scenario's name and the options of `NAME[OPTION=VALUE,...]`; raise InputError for a wrong one."""
    reader = ValueReader(text, what="scenario")
    name, options = read_given(reader, _options)
    if reader.rest:
        reader.fail("expected '[' or the end")
    find_scenario(name).values(options)
    return name, options


def is_cell_id(text: str) -> bool:
    """Return whether a text is the id of a cell and not just a name."""
    return " " in text.strip() or ("[" in text and text.endswith("]"))


def read_cell(text: str) -> Cell:
    """Return the cell of an id, as every outcome has one; raise InputError, with the place, if it is not one."""
    reader = ValueReader(text, what="cell")
    name, options = read_given(reader, _options)
    if reader.rest and not reader.takes(" "):
        reader.fail("expected '[', or a blank and the machine")
    setup = setup_from(reader, _parameters) if reader.rest else Setup(machine="q35")
    scenario = find_scenario(name)
    scenario.values(options)
    load_template(setup.machine).values(setup.parameters)
    return Cell.of(with_disk_line(setup, by_loader=scenario.by_loader), name, options=options)


def options_of(scenario: Scenario, options: Sequence[str]) -> dict[str, Any]:
    """Return the options of a scenario given as NAME=VALUE; raise InputError for an unknown or wrong one."""
    return _pairs(scenario, options, "--scenario-option", "for example: -s cycles=50")


class _Declaring(Protocol):
    """What has typed parameters."""

    def parse(self, name: str, text: str) -> Any:
        """Return the value of `name=text`."""

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter's value."""


def _pairs(declaring: _Declaring, pairs: Sequence[str], option: str, hint: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise InputError(f"{option} {pair!r}: is not NAME=VALUE", hint=hint)
        settings[name] = declaring.parse(name, text)
    declaring.values(settings)
    return settings


def _parameters(machine: str) -> Mapping[str, Parameter]:
    return load_template(machine).parameters


def _options(scenario: str) -> Mapping[str, Parameter]:
    return find_scenario(scenario).options


def _read(text: str) -> Setup:
    return setup_from(ValueReader(text, what="machine"), _parameters)


def _typed(setup: Setup, machine_type: str) -> Setup:
    return setup.model_copy(update={"parameters": {**setup.parameters, "type": machine_type}})


def _with_params(setup: Setup, params: Sequence[str]) -> Setup:
    """Return the setup with parameters given beside it; the setup's own take precedence."""
    template = load_template(setup.machine)
    parameters = {**_pairs(template, params, "--param", "for example: -p hotplug=native"), **setup.parameters}
    template.values(parameters)
    return setup.model_copy(update={"parameters": parameters})


def completed(setup: Setup, *, by_loader: bool = False, progress: Progress = silent, **given: str) -> Setup:
    """Return the setup with fields given beside it, what is empty not given, and `@image` replaced by the disk's line.

    Raises InputError if it says otherwise than what is given.
    """
    wanted = {name: value for name, value in given.items() if value}
    for name, value in wanted.items():
        there = getattr(setup, name)
        if there not in (Setup.model_fields[name].default, value):
            raise InputError(f"--{name} {value!r}: {str(setup)!r} says {there!r}", hint="say it once")
    return with_disk_line(setup.model_copy(update=wanted), by_loader=by_loader, progress=progress)


def _check_is_machine(name: str, text: str) -> None:
    """Raise InputError for the id of a cell: its question stands before the machine."""
    if name not in TEMPLATES.names() and known_scenario(name):
        raise InputError(f"machine {text!r}: {name} is a scenario", hint=f"that is a cell: testbed run {text!r}")


def _is_machine_type(name: str) -> bool:
    return "*" in name or "?" in name or _VERSIONED.fullmatch(name) is not None


def _matching_types(pattern: str, offered: Iterable[str]) -> list[tuple[str, str]]:
    """Return the versioned machine types that match, by version, each with the template it runs on.

    Raises InputError with those there are if none does.
    """
    known = sorted((each for each in set(offered) if _VERSIONED.fullmatch(each)), key=_by_version)
    matching = [each for each in known if fnmatchcase(each, pattern)]
    if not matching:
        there = ", ".join(known) or "none"
        raise InputError(f"--machine {pattern!r}: no versioned machine type matches", hint=f"there are: {there}")
    return [(each, each.split("-")[1]) for each in matching]


def _by_version(name: str) -> tuple[str, list[int]]:
    family, version = name.rsplit("-", 1)
    return family, [int(part) for part in version.split(".")]

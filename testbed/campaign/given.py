"""What is given with a name in brackets: parameters of `q35[hotplug=native]`, options of `replug[cycles=50]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from testbed.machine.template import load_template
from testbed.model.errors import InputError
from testbed.scenarios.scenario import find_scenario

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from testbed.machine.template import Parameter, Template
    from testbed.scenarios.scenario import Scenario


class _Typed(Protocol):
    """What has typed parameters."""

    def parse(self, name: str, text: str) -> Any:
        """Return the value of `name=text`."""

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter's value."""


def given_parameters(machine: str, params: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of a machine given as NAME=VALUE; raise InputError for an unknown or wrong one."""
    return parameters_of(load_template(machine), params)


def parameters_of(template: Template, params: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of a template given as NAME=VALUE; raise InputError for an unknown or wrong one."""
    return _given(template, params, "--param", "for example: -p hotplug=native")


def options_of(scenario: Scenario, options: Sequence[str]) -> dict[str, Any]:
    """Return the options of a scenario given as NAME=VALUE; raise InputError for an unknown or wrong one."""
    return _given(scenario, options, "--scenario-option", "for example: -s cycles=50")


def machine_with_parameters(text: str, params: Sequence[str] = ()) -> tuple[str, dict[str, Any]]:
    """Return a template's name and the parameters of `NAME[PARAMETER=VALUE,...]`; raise InputError for a wrong one.

    `params` are given beside it; what stands in the brackets goes before them. A comma and what follows it belong to
    the value of a list or dict unless a parameter's name and `=` follow.
    """
    name, inner = _bracket(text, "machine", "for example: 'q35[hotplug=native]'")
    template = load_template(name)
    return name, parameters_of(template, [*params, *_parts(inner, template.parameters)])


def scenario_with_options(text: str) -> tuple[str, dict[str, Any]]:
    """Return a scenario's name and the options of `NAME[OPTION=VALUE,...]`; raise InputError for a wrong one."""
    name, inner = _bracket(text, "scenario", "for example: 'disk-unplug' or 'replug[cycles=50]'")
    scenario = find_scenario(name)
    return name, options_of(scenario, _parts(inner, scenario.options))


def _bracket(text: str, kind: str, hint: str) -> tuple[str, str]:
    name, bracket, inner = text.partition("[")
    if bracket and not inner.endswith("]"):
        raise InputError(f"{kind} {text!r}: the bracket is not closed", hint=hint)
    return name, inner.removesuffix("]")


def _parts(inner: str, kinds: Mapping[str, Parameter]) -> list[str]:
    """Split what stands in brackets at the commas that part one parameter from the next."""
    parts: list[str] = []
    for part in inner.split(",") if inner else ():
        before = parts[-1].partition("=")[0] if parts else ""
        goes_on = before in kinds and kinds[before].type in ("list", "dict") and part.partition("=")[0] not in kinds
        if goes_on:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return parts


def _given(what: _Typed, pairs: Sequence[str], option: str, hint: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise InputError(f"{option} {pair!r}: is not NAME=VALUE", hint=hint)
        given[name] = what.parse(name, text)
    what.values(given)
    return given

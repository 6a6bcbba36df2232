"""`testbed list`: what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from testbed.campaign.case import load_case
from testbed.cli.options import PathName
from testbed.cli.terminal import print_section
from testbed.image.store import find_image
from testbed.machine.template import load_template
from testbed.model.catalog import CASES, RECIPES, TEMPLATES, unknown
from testbed.scenarios.scenario import all_scenarios

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from testbed.model.parameter import Parameter
    from testbed.scenarios.scenario import Scenario


def list_(
    kind: Annotated[str, typer.Argument(help="cases, scenarios, machines, images, or all of them.")] = "all",
    path: PathName = None,
) -> None:
    """List the cases, scenarios with their options, machine templates with their parameters, and images."""
    sections: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "cases": lambda: [(name, load_case(name).title) for name in CASES.names()],
        "scenarios": lambda: [row for each in all_scenarios().values() for row in _scenario_rows(each)],
        "machines": lambda: [row for name in TEMPLATES.names() for row in _template_rows(name)],
        "images": lambda: [(name, _image_state(name)) for name in RECIPES.names()],
    }
    if kind != "all" and kind not in sections:
        raise unknown("list of", kind, (*sections, "all"))
    for name, rows in sections.items():
        if kind in ("all", name):
            print_section(name, rows())


def _template_rows(name: str) -> list[tuple[str, str]]:
    template = load_template(name)
    return [(name, template.description), *_parameter_rows(template.parameters)]


def _scenario_rows(scenario: Scenario) -> list[tuple[str, str]]:
    return [(scenario.name, scenario.question), *_parameter_rows(scenario.options)]


def _parameter_rows(parameters: Mapping[str, Parameter]) -> list[tuple[str, str]]:
    rows = []
    for key, parameter in parameters.items():
        choices = f" ({'|'.join(parameter.choices)})" if parameter.choices else ""
        rows.append((f"  {key}", f"{parameter.doc}{choices}; default: {parameter.default}"))
    return rows


def _image_state(name: str) -> str:
    built = find_image(name)
    return f"{built.package}, built" if built else "not built yet"

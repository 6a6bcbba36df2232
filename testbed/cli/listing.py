"""`testbed list`: what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from testbed.campaign.case import load_case
from testbed.cli.options import PathName, Verbose
from testbed.cli.terminal import out, print_section
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
    verbose: Verbose = False,
) -> None:
    """List the cases, scenarios, machine templates and images; with -v their options and parameters."""
    sections: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "cases": lambda: [(name, load_case(name).title) for name in CASES.names()],
        "scenarios": lambda: [row for each in all_scenarios().values() for row in _scenario_rows(each, verbose)],
        "machines": lambda: [row for name in TEMPLATES.names() for row in _template_rows(name, verbose)],
        "images": lambda: [(name, _image_state(name)) for name in RECIPES.names()],
    }
    if kind != "all" and kind not in sections:
        raise unknown("list of", kind, (*sections, "all"))
    for name, rows in sections.items():
        if kind in ("all", name):
            print_section(name, rows())
    if not verbose and kind in ("all", "scenarios", "machines"):
        out.print("[dim]their options and parameters: testbed list -v[/dim]", highlight=False)


def _template_rows(name: str, verbose: bool) -> list[tuple[str, str]]:
    template = load_template(name)
    return [(name, template.description), *_parameter_rows(template.parameters if verbose else {})]


def _scenario_rows(scenario: Scenario, verbose: bool) -> list[tuple[str, str]]:
    return [(scenario.name, scenario.question), *_parameter_rows(scenario.options if verbose else {})]


def _parameter_rows(parameters: Mapping[str, Parameter]) -> list[tuple[str, str]]:
    rows = []
    for key, parameter in parameters.items():
        choices = f" ({'|'.join(parameter.choices)})" if parameter.choices else ""
        rows.append((f"  {key}", f"{parameter.doc}{choices}; default: {_said(parameter.default)}"))
    return rows


def _image_state(name: str) -> str:
    built = find_image(name)
    return f"{built.package}, built" if built else "not built yet"


def _said(default: object) -> str:
    """Return a default as it would be given; an empty one as a shell writes it."""
    return "''" if default == "" else str(default)

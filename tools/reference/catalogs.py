"""What there is by name: scenarios with their options, machines with their parameters, images, cases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.campaign.case import CaseFile
from testbed.image.recipe import load_recipe
from testbed.machine.template import load_template
from testbed.model.catalog import CASES, RECIPES, TEMPLATES
from testbed.model.yaml_reader import read_yaml
from testbed.scenarios.scenario import all_scenarios
from tools.reference.markdown import line, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from testbed.model.outcome import Cell
    from testbed.model.parameter import Parameter


def scenarios() -> Iterator[str]:
    """Yield the page of all scenarios with their options."""
    yield from (
        "# Scenarios",
        "",
        "Questions that `run`, `compare`, `matrix`, `bisect` and cases ask; `-s NAME=VALUE` sets an option.",
        "",
    )
    for scenario in all_scenarios().values():
        yield from (f"## {scenario.name}", "", line(scenario.question), "")
        yield from _parameters(scenario.options)


def machines() -> Iterator[str]:
    """Yield the page of all machine templates with their parameters, and of image recipes."""
    yield from (
        "# Machines",
        "",
        "Templates of machines; `-p NAME=VALUE`, or `'q35[NAME=VALUE]'`, sets a parameter.",
        "",
    )
    for name in TEMPLATES.names():
        template = load_template(name)
        yield from (f"## {name}", "", line(template.description), "")
        yield from _parameters(template.parameters)
    yield from (
        "## Image recipes",
        "",
        "What `--image` takes beside kernels (`path:`, `deb:`, `rpm:`, `apt:`, `host`) and disks (`disk:`).",
        "",
    )
    yield from table(("recipe", "kernel"), ((f"`{name}`", f"`{load_recipe(name).kernel}`") for name in RECIPES.names()))


def _parameters(parameters: Mapping[str, Parameter]) -> Iterator[str]:
    if parameters:
        rows = [(f"`{name}`", each.type, f"`{each.default!r}`", _parameter(each)) for name, each in parameters.items()]
        yield from table(("name", "type", "default", "what it is"), rows)


def _parameter(parameter: Parameter) -> str:
    choices = f": {', '.join(f'`{each}`' for each in parameter.choices)}" if parameter.choices else ""
    bounds = [
        f"{word} {value}" for word, value in (("from", parameter.min), ("to", parameter.max)) if value is not None
    ]
    return f"{parameter.doc}{choices}{f' ({chr(32).join(bounds)})' if bounds else ''}"


def cases() -> Iterator[str]:
    """Yield the page of all cases with their cells."""
    yield from (
        "# Cases",
        "",
        "Documented bugs, each cell with the verdict and the outcome it must give: `testbed run CASE`.",
        "",
    )
    for name in CASES.names():
        file = read_yaml(CASES.find(name))[0].validate(CaseFile)
        yield from (f"## {name}", "", line(file.title), "", file.description.strip(), "")
        yield from (f"- <{each}>" if "://" in each else f"- {each}" for each in file.references)
        yield ""
        cells = [cell for row in file.cells for cell in row.written(file.image)]
        yield from table(("cell", "gives", "role"), ((f"`{cell.id}`", _gives(cell), cell.role) for cell in cells))


def _gives(cell: Cell) -> str:
    return f"{cell.expected}: `{cell.expected_outcome}`"

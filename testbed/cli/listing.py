"""`testbed list`: what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from testbed.campaign.offers import case_offers, machine_offers, scenario_offers
from testbed.cli.options import PathName, Verbose
from testbed.cli.terminal import out, print_section
from testbed.model.catalog import RECIPES, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from testbed.campaign.offers import Offer


def list_(
    kind: Annotated[str, typer.Argument(help="cases, scenarios, machines, images, or all of them.")] = "all",
    path: PathName = None,
    verbose: Verbose = False,
) -> None:
    """List the cases, scenarios, machine templates and images; with -v their options and parameters."""
    sections: dict[str, Callable[[], list[tuple[str, str]]]] = {
        "cases": lambda: _rows(case_offers(), verbose),
        "scenarios": lambda: _rows(scenario_offers(), verbose),
        "machines": lambda: _rows(machine_offers(), verbose),
        "images": lambda: [(name, _image_state(name)) for name in RECIPES.names()],
    }
    if kind != "all" and kind not in sections:
        raise unknown("list of", kind, (*sections, "all"))
    for name, rows in sections.items():
        if kind in ("all", name):
            print_section(name, rows())
    if not verbose and kind in ("all", "scenarios", "machines"):
        out.print("[dim]their options and parameters: testbed list -v[/dim]", highlight=False)


def _rows(offers: Iterable[Offer], verbose: bool) -> list[tuple[str, str]]:
    rows = []
    for offer in offers:
        rows.append((offer.name, offer.text))
        rows += [(f"  {name}", text) for name, text in offer.choices.items() if verbose]
    return rows


def _image_state(name: str) -> str:
    # asked here only: it reads the recipe
    from testbed.image.store import find_image  # noqa: PLC0415

    built = find_image(name, unread=True)
    return f"{built.package}, built" if built else "not built yet"

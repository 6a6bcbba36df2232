"""The page of an atlas as a file: HTML if it is named so, else Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed.cli.terminal import write_text
from testbed.report.atlas import atlas_html, atlas_page

if TYPE_CHECKING:
    from testbed.model.atlas import AtlasReport

AtlasPage = Annotated[
    Path | None,
    typer.Option(
        "--page",
        help="Write an atlas's page to this file: HTML if it ends in .html, else Markdown.",
        show_default=False,
    ),
]


def write_page(report: AtlasReport, path: Path) -> None:
    """Write the page."""
    write_text(atlas_html(report) if path.suffix == ".html" else atlas_page(report), path)

"""Which pages there are. A unit test compares what is committed with what would be written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tools.reference.catalogs import cases, machines, scenarios
from tools.reference.commands import commands
from tools.reference.files import files
from tools.reference.schemas import schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
_HEAD = "<!-- written by `make docs` from the code: change the code -->\n\n"
_PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "commands.md": commands,
    "scenarios.md": scenarios,
    "machines.md": machines,
    "cases.md": cases,
    "files.md": files,
    "json.md": schemas,
}


def pages() -> dict[str, str]:
    """Return each page of the reference by its file's name."""
    return {name: _HEAD + "\n".join(lines()).rstrip() + "\n" for name, lines in _PAGES.items()}

"""docs/reference/ says what the code says, and leaves nothing without a word."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from testbed.cli.commands import COMMANDS
from testbed.model.catalog import CASES, TEMPLATES
from testbed.scenarios.scenario import all_scenarios
from tools.reference import FOLDER, pages

from .test_docs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = pages()


def test_the_committed_reference_is_what_the_code_says() -> None:
    committed = {file.name: file.read_text("utf-8") for file in FOLDER.glob("*.md")}
    stale = [name for name in {*committed, *PAGES} if committed.get(name) != PAGES.get(name)]
    assert not stale, "docs/reference is stale: run make reference, and commit what it writes"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("commands.md", [f"testbed {name}" for name in COMMANDS]),
        ("scenarios.md", list(all_scenarios())),
        ("machines.md", TEMPLATES.names()),
        ("cases.md", CASES.names()),
    ],
)
def test_nothing_is_missing(page: str, names: list[str]) -> None:
    assert set(names) <= set(re.findall("^#+ (.*)$", PAGES[page], re.MULTILINE))


@pytest.mark.parametrize("page", ["commands.md", "files.md", "machines.md", "scenarios.md"])
def test_every_key_option_and_parameter_is_explained(page: str) -> None:
    rows = [line for line in PAGES[page].splitlines() if line.startswith("| `")]
    assert rows
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_page_has_its_place_in_the_site() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    placed = {place for section in config["nav"] for place in _places(section)}
    there = {file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")}
    assert placed == there | {"index.md", "contributing.md", "changelog.md"}


def _places(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict | list):
        for each in entry.values() if isinstance(entry, dict) else entry:
            yield from _places(each)

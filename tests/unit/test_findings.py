"""docs/findings: every page says what a maintainer needs, and its reproducer is short and stands on its own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "findings"
INDEX = FOLDER / "index.md"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page != INDEX)
SCRIPTS = sorted(FOLDER.glob("*.sh"))
SECTIONS = ["Versions", "Reproducer", "In the source", "Earlier reports", "Certain and inferred", "Proposed fix"]
LONGEST = 40
#: a page's whole line that quotes a reproducer, which the site shows in its place (tools/site_pages.py)
_QUOTED = re.compile(r"\[([\w-]+\.sh)\]\(\1\)$", re.MULTILINE)


def name_of(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_has_every_section(page: Path) -> None:
    title, *sections = re.split(r"^## ", page.read_text("utf-8"), flags=re.MULTILINE)
    heading, _, first = title.partition("\n\n")
    assert heading.startswith("# ")
    assert len(first.strip().split("\n\n")) == 1, "one paragraph for whoever reads no further"
    assert [section.partition("\n")[0] for section in sections] == SECTIONS
    assert all(section.partition("\n")[2].strip() for section in sections)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_quotes_reproducers_that_exist(page: Path) -> None:
    section = page.read_text("utf-8").partition("## Reproducer\n")[2].partition("## In the source\n")[0]
    quoted = _QUOTED.findall(section)
    assert quoted
    assert all((FOLDER / name).exists() for name in quoted)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_index_leads_to_every_page(page: Path) -> None:
    assert f"]({page.name})" in INDEX.read_text("utf-8")


def test_no_reproducer_is_left_over() -> None:
    quoted = {name for page in PAGES for name in _QUOTED.findall(page.read_text("utf-8"))}
    assert {script.name for script in SCRIPTS} == quoted


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_reproducer_is_short_and_stands_on_its_own(script: Path) -> None:
    text = script.read_text("utf-8")
    assert len(text.splitlines()) <= LONGEST
    assert max(map(len, text.splitlines())) <= 130
    assert text.startswith("#!/bin/sh\n# ")
    assert "Exit status: 0 " in text
    assert not re.search(r"testbed|python|guest-images", text), "nothing of the test bed"
    checked = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")

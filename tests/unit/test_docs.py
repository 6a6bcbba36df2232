"""README and docs: the commands shown exist with their options, links lead somewhere, the front door stays short."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.core import TyperGroup

from testbed.cli.commands import COMMANDS, load

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_SHOWN = re.compile(r"^\$ ((?:.*\\\n)*.*)$|`(testbed [^`]*)`", re.MULTILINE)
_LINK = re.compile(r"(?:\]\(|^\[[^\]]+\]: )([^)\s]+)", re.MULTILINE)
#: what may be wrong with a command that a text only mentions, or that names a file of the reader's
_ALLOWED = re.compile("Missing parameter|does not exist")
_NAME = re.compile(r"(\.venv/bin/)?testbed")
_ENDS = {"|", ";", "&&", "&", "<", ">", "||", "#", "then"}


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of each whole `testbed` command that a page shows."""
    for match in _SHOWN.finditer(text):
        shown = match[1] or match[2]
        if "…" not in shown.replace('"…"', ""):  # else it is a part of a command
            yield from commands_of(shown.replace("\\\n", " "))


def commands_of(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each `testbed` command in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    words = list(lexer)
    while (start := next((place for place, word in enumerate(words) if _NAME.fullmatch(word)), None)) is not None:
        if words[:1] == ["make"]:
            return
        words = words[start + 1 :]
        end = next((place for place, word in enumerate(words) if word in _ENDS), len(words))
        yield words[:end]


def problem_of(words: list[str]) -> str:
    """Return what is wrong with a command's arguments; "" if it would be run."""
    name = words[0] if words else "--help"
    if name.startswith("-"):
        return ""
    if name not in COMMANDS:
        return f"no command {name}"
    try:
        return problem(_loaded(name), name, words[1:])
    except SystemExit:
        return ""  # --help
    except Exception as error:  # the parser's own exceptions are private to it
        return "" if _ALLOWED.search(str(error)) else f"{' '.join(words)}: {error or type(error).__name__}"


def problem(command: Any, name: str, arguments: list[str]) -> str:
    """Return what a command says of its arguments without being run; "" if it takes them."""
    context = command.make_context(name, arguments, resilient_parsing=isinstance(command, TyperGroup))
    if isinstance(command, TyperGroup):
        names = command.list_commands(context)
        if not arguments:
            return ""
        if arguments[0] not in names:
            return f"{name}: no command {arguments[0]!r} among {names}"
        return problem(command.get_command(context, arguments[0]), arguments[0], arguments[1:])
    return ""


_loaded = cache(load)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_shown_exist_with_their_options(page: Path) -> None:
    wrong = [problem_of(words) for words in commands(page.read_text("utf-8"))]
    assert not [each for each in wrong if each]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in _LINK.findall(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = page if not path else page.parent / path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as the usual renderers make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_front_door_is_short() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= 150
    assert [line for line in lines if len(line) > 100] == []


def test_every_guide_is_reached_from_the_readme() -> None:
    linked = set(_LINK.findall(README.read_text("utf-8")))
    pages = {page.relative_to(ROOT).as_posix() for page in PAGES if page.parent == ROOT / "docs"}
    assert pages <= linked

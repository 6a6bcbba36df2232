"""A user's own scenario file: every mistake is told with its line, in the bed's words, without a guest if it can be."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from testbed.model.errors import InputError, UnsupportedError
from testbed.scenarios.scenario import Scenario, find_scenario

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.scenarios.trial import Trial

HEAD = """\
from testbed.api import Finding, Judgement, Parameter, UnsupportedError, Verdict, scenario
FINDING = Finding(subject="s", expected="e", observed="o", evidence="shell.jsonl:1")
"""
GOOD = 'Judgement(verdict=Verdict.GOOD, outcome="o", reason="r", findings=(FINDING,))'


def written(path: Path, body: str, *, decorator: str = "@scenario()") -> Path:
    """Write a scenario whose body begins on line 6."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    path.write_text(f'{HEAD}{decorator}\nasync def mine(trial):\n    """Is it so?"""\n{lines}\n')
    return path


def told(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        find_scenario(str(path))
    assert "pydantic" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("body", "line", "named"),
    [
        ('return Judgement(verdict=Verdict.GOOD, outcome="o", reason="r")', 6, ("Judgement", "findings")),
        ('return Judgement(verdict=Verdict.GOOD, outcome="o", reason="r", findings=())', 6, ("finding", "evidence")),
        ('return Judgement(verdict=Verdict.GOOD, outcome="o", reason="r", finding=())', 6, ("'finding'",)),
        ('Finding(subject="s", expected="e", observed="o")', 6, ("Finding", "evidence")),
        ('Finding("s", "e", "o", "x")', 6, ("subject=", "evidence=")),
        ('n = 1\nreturn trial.options["count"]', 7, ("'count'", "mine")),
        ("return (", 6, ("never closed",)),
    ],
)
def test_what_the_text_shows_is_told_without_a_guest(
    body: str, line: int, named: tuple[str, ...], tmp_path: Path
) -> None:
    path = written(tmp_path / "mine.py", body)
    error = told(path)
    assert error.message.startswith(f"{path}:{line}: ")
    assert all(name in error.message for name in named)


@pytest.mark.parametrize(
    ("decorator", "named"),
    [
        ("@scenario", ("parentheses",)),
        ('@scenario(modules="igb")', ("modules", "'igb'")),
        ('@scenario(options={"n": 1})', ("option n", "Parameter")),
        ('@scenario(options={"n": Parameter(type="number", default=1, doc="d")})', ("type", "'number'", "'int'")),
        ('@scenario(options={"n": Parameter(type="int", default=1)})', ("doc is missing",)),
        (
            '@scenario(options={"n": Parameter(type="int", default="1", doc="d")})',
            ("option n", "default", "wanted int"),
        ),
        ('@scenario(options={"n": Parameter(type="int", default=0, min=1, doc="d")})', ("option n", "at least 1")),
        ("@scenario(warm=True)", ("warm",)),
    ],
)
def test_what_is_said_of_a_scenario_is_checked(decorator: str, named: tuple[str, ...], tmp_path: Path) -> None:
    path = written(tmp_path / "mine.py", f"return {GOOD}", decorator=decorator)
    error = told(path)
    assert error.message.startswith(f"{path}:3: ")
    assert all(name in error.message for name in named)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        ('def mine(trial):\n    """Is it so?"""', "async"),
        ('async def mine():\n    """Is it so?"""', "one parameter"),
        ("async def mine(trial):\n    pass", "docstring"),
    ],
)
def test_a_function_that_is_no_scenario_is_told(function: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"{HEAD}@scenario()\n{function}\n")
    assert named in told(path).message


def judged(path: Path, **options: Any) -> object:
    scenario: Scenario = find_scenario(str(path))
    trial = cast("Trial", SimpleNamespace(options=options, call=lambda: int("x")))
    return asyncio.run(scenario.judge(trial))


@pytest.mark.parametrize(
    ("body", "line", "named"),
    [
        ("seen = ()\n" + GOOD.replace("(FINDING,)", "seen").replace("Judg", "return Judg"), 7, ("finding", "evidence")),
        ('return Judgement(verdict="fine", outcome="o", reason="r", findings=(FINDING,))', 6, ("verdict", "'fine'")),
        ('return Judgement(verdict=Verdict.GOOD, outcome=1, reason="r", findings=(FINDING,))', 6, ("outcome", "int 1")),
        ('Finding(subject="s", expected="e", observed="o", evidence="")', 6, ("evidence", "not empty")),
        ("n = 0\nreturn 1 / n", 7, ("ZeroDivisionError",)),
        ("name = 'n'\nreturn trial.options[name]", 7, ("KeyError", "'n'")),
    ],
)
def test_a_mistake_that_shows_only_in_a_run_has_its_line(
    body: str, line: int, named: tuple[str, ...], tmp_path: Path
) -> None:
    path = written(tmp_path / "mine.py", body)
    with pytest.raises(InputError) as caught:
        judged(path)
    assert caught.value.message.startswith(f"{path}:{line}: ")
    assert all(name in caught.value.message for name in named)
    assert "pydantic" not in caught.value.message


@pytest.mark.parametrize("body", ["return None", 'return "good"'])
def test_what_is_no_judgement_is_told(body: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wanted a Judgement"):
        judged(written(tmp_path / "mine.py", body))


def test_what_a_scenario_means_to_raise_is_left_alone_and_so_is_what_the_bed_raises(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError):
        judged(written(tmp_path / "mine.py", 'raise UnsupportedError("not here")'))
    with pytest.raises(ValueError, match="invalid literal"):
        judged(written(tmp_path / "other.py", "trial.call()"))


def test_a_declared_option_and_a_whole_judgement_are_no_mistake(tmp_path: Path) -> None:
    decorator = '@scenario(options={"n": Parameter(type="int", default=1, doc="d")})'
    path = written(tmp_path / "mine.py", f'trial.options["n"]\nreturn {GOOD}', decorator=decorator)
    assert getattr(judged(path, n=1), "outcome", "") == "o"

"""The table of commands: what it says is what they say, and a command imports what it needs."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from testbed.cli.commands import COMMANDS, load
from testbed.cli.options import Jobs, spliced


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


def imported(*arguments: str) -> set[str]:
    program = f"import sys, testbed.cli; sys.argv[1:] = {list(arguments)!r}\ntry: testbed.cli.main()\nfinally: "
    program += "sys.stderr.write(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return set(result.stderr.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_all_says_what_the_command_says_of_itself(name: str) -> None:
    lazy = COMMANDS[name]
    found = getattr(importlib.import_module(f"testbed.cli.{lazy.module}"), lazy.name)
    text = str(found.info.help) if isinstance(found, typer.Typer) else (inspect.getdoc(found) or "").split("\n\n")[0]
    assert " ".join(text.split()) == lazy.help
    assert load(name).name == name


def test_the_help_of_all_names_every_command() -> None:
    result = ran("--help")
    assert result.returncode == 0
    assert all(f" {name} " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["version"], ["--help"]])
def test_what_asks_for_no_guest_imports_nothing_of_guests(arguments: list[str]) -> None:
    modules = imported(*arguments)
    assert "testbed.cli.commands" in modules
    assert not {name for name in modules if name.startswith(("testbed.campaign", "testbed.machine", "testbed.guest"))}
    assert not modules & {"jinja2", "yaml", "asyncio", "qemu.qmp", "prompt_toolkit"}


def test_an_unknown_command_is_answered_with_the_closest() -> None:
    result = ran("comapre")
    assert result.returncode == 2
    assert "did you mean compare?" in result.stderr


@dataclass(frozen=True, kw_only=True)
class Pace:
    jobs: Jobs = None
    slow: Annotated[bool, typer.Option("--slow", help="Take time.")] = False


@spliced
def sample(name: Annotated[str, typer.Argument()], pace: Pace, loud: bool = False) -> None:
    """Try a group."""
    typer.echo(f"{name} {pace.jobs} {pace.slow} {loud}")


def test_a_group_s_options_are_the_command_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(inspect.signature(sample).parameters) == ["name", "jobs", "slow", "loud"]
    app = typer.Typer()
    app.command()(sample)
    with pytest.raises(SystemExit) as end:
        app(["q35", "-j", "3", "--slow"])
    assert (end.value.code, capsys.readouterr().out) == (0, "q35 3 True False\n")

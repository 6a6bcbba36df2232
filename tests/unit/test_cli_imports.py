"""What a command brings with it: a person waits for each import, so what is asked decides."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

_RUN = """
import sys
sys.argv = ["testbed", *{words!r}]
from testbed.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
#: what takes a tenth of a second and more, or is of the guests' world
HEAVY = {"asyncio", "jinja2", "pexpect", "prompt_toolkit", "pydantic", "qemu.qmp", "yaml", "testbed.campaign"}
#: what builds images, and what is about kinds of kernel that were not asked for
BUILDING = {"testbed.image.build", "testbed.image.disk.survey", "testbed.image.path_kernel", "testbed.image.rpm"}


def imported(*words: str, **variables: str) -> set[str]:
    """Return the modules there are after a command."""
    command = [sys.executable, "-c", _RUN.format(words=list(words))]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    return set(done.stderr.splitlines()[-1].split())


def test_the_names_of_commands_are_completed_without_any_of_them() -> None:
    variables = {"COMP_WORDS": "testbed ver", "COMP_CWORD": "1", "_TESTBED_COMPLETE": "complete_bash"}
    modules = imported(**variables)
    assert "typer.completion" in modules
    assert modules & HEAVY == set()


@pytest.mark.parametrize(("words", "more"), [(["version"], {"rich"}), (["--help"], set()), ([], set())])
def test_what_runs_nothing_brings_nothing_that_does(words: list[str], more: set[str]) -> None:
    modules = imported(*words)
    assert "testbed.cli.commands" in modules
    assert modules & (HEAVY | more) == set()


def test_what_there_is_is_told_without_reading_it(tmp_path: Path) -> None:
    cache = {"TESTBED_CACHE": str(tmp_path)}
    assert "testbed.campaign.case" in imported("list", "cases", **cache), "the first time it is read"
    assert "testbed.scenarios.plug" in imported("list", "scenarios", **cache)
    imported("list", "machines", **cache)
    unwanted = {"jinja2", "asyncio", "yaml", "testbed.campaign.case", "testbed.scenarios.scenario"}
    for kind in ("cases", "scenarios", "machines"):
        modules = imported("list", kind, **cache)
        assert "testbed.cli.listing" in modules
        assert modules & unwanted == set()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("pci", "lint"), "testbed.lint.linter"),
        (("mmio", "explain"), "testbed.kvmtrace.explanation"),
        (("explain",), "testbed.explain.explanation"),
    ],
)
def test_a_file_is_looked_into_without_what_boots_a_guest(words: tuple[str, ...], what: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_bytes(bytes(64))
    modules = imported(*words, str(tmp_path / "config"))
    assert what in modules
    assert modules & {"asyncio", "jinja2", "testbed.campaign", "testbed.guest.guest", "testbed.machine"} == set()


def test_a_report_that_nobody_wants_brings_nothing() -> None:
    writing = "from testbed.cli.options import ReportOptions; ReportOptions().write([])"
    command = [sys.executable, "-c", f"{writing}; import sys; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {"testbed.report.junit_file", "testbed.report.html_page", "junitparser"} & set(done.stdout.split()) == set()


def test_a_scenario_brings_no_other_no_steps_and_nothing_that_builds_images() -> None:
    modules = imported("run", "disk-unplug", "-p", "nosuch=1")
    assert "testbed.scenarios.unplug" in modules
    assert "testbed.model.aer_log" not in modules
    shipped = {"testbed.scenarios.plug", "testbed.scenarios.vm_survives_error", "testbed.scenarios.sriov_enable"}
    assert (
        modules & (BUILDING | shipped | {"testbed.steps.file", "testbed.verbs.verbs", "testbed.model.bisect"}) == set()
    )

"""Guests watched over their console alone, as a user asks about them: AER, `compare`, `bisect`, and a noisy line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from testbed.model.comparison import Comparison
from testbed.model.errors import BootError
from tests.console_disk import PASSWORD, console_disk, login_file

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.pytest_plugin import BootFactory, Judge

pytestmark = pytest.mark.extended

NATIVE = "q35[hotplug=native]"
#: a virtio disk that has the capability
AER = "q35[hotplug=native,globals=virtio-blk-pci.aer=true]"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"disk:{console_disk(tmp_path_factory.mktemp('console'))}"


@pytest.fixture
def fields(disk: str, tmp_path: Path) -> dict[str, Any]:
    """Return the fields of a setup whose guest answers on its console."""
    return {"image": disk, "via": "console", "login": login_file(tmp_path, "root", PASSWORD)}


def answered(folder: Path, fields: dict[str, Any], *arguments: str) -> Any:
    """Return the JSON of a command."""
    options = [part for name, value in fields.items() for part in (f"--{name}", value)]
    command = [sys.executable, "-m", "testbed", *arguments, *options, "--accel", "tcg", "--json", "-"]
    wide = {**os.environ, "COLUMNS": "250"}
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=wide)
    assert result.stdout, result.stderr
    assert PASSWORD not in result.stdout + result.stderr
    return json.loads(result.stdout)


@pytest.mark.seconds(40)
@pytest.mark.parametrize(
    ("scenario", "options", "cmdline", "verdict", "outcome"),
    [
        ("aer-recover", {"severity": "correctable"}, "", "good", "reported"),
        ("aer-without-control", {}, "", "good", "announced"),
        ("aer-without-control", {}, "pci=noaer", "bad", "unserved"),
    ],
    ids=["recover", "served", "noaer"],
)
async def test_an_error_is_heard_of_unless_an_option_prevents_it(
    testbed_try: Judge,
    fields: dict[str, Any],
    scenario: str,
    options: dict[str, str],
    cmdline: str,
    verdict: str,
    outcome: str,
) -> None:
    tried = await testbed_try(scenario, AER, cmdline=cmdline, options=options, time="warped", **fields)
    assert (tried.verdict, tried.outcome) == (verdict, outcome), tried.reason
    assert (tried.time, tried.boot) == ("real", "loader"), "such a guest's time is the host's"
    served = {each.subject: each.observed for each in tried.findings}.get("AER is served by", "")
    assert served.startswith("nobody:") == (verdict == "bad")


@pytest.mark.seconds(60)
def test_machines_are_compared(tmp_path: Path, fields: dict[str, Any]) -> None:
    machines = ("-m", NATIVE, "-m", "q35[hotplug=acpi]")
    found = Comparison.model_validate(
        answered(tmp_path, fields, "compare", "disk-unplug", *machines, "--cmdline", "pcie_aspm=off")
    )
    assert [cell.verdict for cell in found.cells] == ["bad", "good"]
    assert [cell.boot for cell in found.cells] == ["loader", "loader"]
    controls = [
        each for each in found.differences if (each.kind, each.subject, each.aspect) == ("control", "hot-plug", "")
    ]
    assert [list(each.values.values()) for each in controls] == [["nobody", "ACPI (acpiphp)"]]


@pytest.mark.seconds(120)
def test_an_option_is_found_among_others(tmp_path: Path, fields: dict[str, Any]) -> None:
    line = "nokaslr pcie_aspm=off"
    report = answered(tmp_path, fields, "bisect", "disk-unplug", "-m", NATIVE, "--cmdline", line)
    assert (report["proven"], report["incomplete"]) == (True, "")
    assert report["culprits"] == ["pcie_aspm=off"]
    assert report["remedy"] == "nokaslr"
    changes = {each["subject"]: (each["with_set"], each["without"]) for each in report["sets"][0]["changes"]}
    assert changes["hot-plug"] == ("nobody", "Linux (pciehp)")


@pytest.mark.seconds(60)
async def test_a_line_that_the_kernel_prints_on_all_the_time(testbed_boot: BootFactory, fields: dict[str, Any]) -> None:
    async with testbed_boot(NATIVE, cmdline="noisy", **fields) as guest:
        for number in range(20):
            result = await guest.shell.run(f"echo {number}; echo e{number} >&2; exit {number}")
            assert (result.text, result.error, result.status) == (f"{number}", f"e{number}", number)
        printed = guest.machine.console.written()
        login = printed.index(b" login: ")
        assert printed[:login].count(b"lazy dog") > 1, "before the login too"
        assert printed[login:].count(b"lazy dog") > 20


@pytest.mark.seconds(30)
@pytest.mark.parametrize(
    ("lines", "words"),
    [(["root", "not-this-one"], "login-incorrect: Login incorrect"), (["root"], "password-wanted: it asks for")],
    ids=["wrong", "none"],
)
async def test_who_is_not_let_in(
    testbed_boot: BootFactory, fields: dict[str, Any], tmp_path: Path, lines: list[str], words: str
) -> None:
    with pytest.raises(BootError, match=f"came to login and no further: {words}"):
        async with testbed_boot(NATIVE, **{**fields, "login": login_file(tmp_path, *lines)}):
            pass

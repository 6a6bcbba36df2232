"""Every cell of every shipped case gives its documented verdict, on a real kernel."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.case import load_case
from testbed.model.catalog import CASES
from testbed.model.outcome import Cell, Verdict

if TYPE_CHECKING:
    from testbed.pytest_plugin import Judge

CELLS = [(case, cell) for case in CASES.names() for cell in load_case(case).cells]


def _parameters() -> list[object]:
    return [
        pytest.param(cell, id=f"{case}: {cell.id}", marks=pytest.mark.seconds(35 if cell.expected == "bad" else 10))
        for case, cell in CELLS
    ]


@pytest.mark.parametrize("cell", _parameters())
async def test_a_cell_gives_its_documented_verdict(cell: Cell, testbed_try: Judge) -> None:
    outcome = await testbed_try(**cell.model_dump())
    assert outcome.verdict == cell.expected, outcome.reason
    assert outcome.findings
    assert outcome.kernel_cmdline == f"console=ttyS0 {cell.cmdline}".rstrip()
    if cell.expected is Verdict.BAD:
        assert "ASPM ClockPM" in outcome.reason
        assert "suspect: pcie_aspm=off" in outcome.reason
    _check_rundir(outcome.rundir)


def _check_rundir(rundir: str) -> None:
    wanted = "machine.yaml argv.json console.log kernel.log qmp.jsonl qemu.log outcome.json reproduce.sh"
    folder = Path(rundir)
    assert {name for name in wanted.split() if not (folder / name).exists()} == set()
    assert "Linux version" in (folder / "kernel.log").read_text()


@pytest.mark.seconds(35)
@pytest.mark.parametrize("hotplug", ["native", "acpi"])
async def test_a_customers_console_options_change_no_verdict_and_no_reason(hotplug: str, testbed_try: Judge) -> None:
    noise = "quiet console=tty0 loglevel=3 printk.time=0"
    parameters = {"hotplug": hotplug}
    plain, noisy = await asyncio.gather(
        testbed_try("disk-unplug", parameters=parameters, cmdline="pcie_aspm=off"),
        testbed_try("disk-unplug", parameters=parameters, cmdline=f"{noise} pcie_aspm=off"),
    )
    assert noisy.verdict == plain.verdict == ("bad" if hotplug == "native" else "good")
    assert _without_numbers(noisy.reason) == _without_numbers(plain.reason)
    assert [finding.subject for finding in noisy.findings] == [finding.subject for finding in plain.findings]


def _without_numbers(reason: str) -> str:
    return re.sub(r"kernel\.log:\d+|after [\d.]+ s", "…", reason)

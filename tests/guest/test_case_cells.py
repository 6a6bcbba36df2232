"""Every cell of every shipped case gives its documented verdict, on a real kernel."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.campaign.case import load_case
from testbed.model.catalog import CASES
from testbed.model.errors import LackingError
from testbed.model.outcome import Role, Verdict

if TYPE_CHECKING:
    from testbed.model.outcome import Cell, Outcome
    from testbed.pytest_plugin import Judge

#: the case whose every cell is run in each way there is
THRICE = "pcie-aspm-off"
#: cases whose failing cell waits for a minute and more, or that boots a level 1 for itself: `make test` has the control
CONTROL_ONLY = {
    *("aer-endpoint-recovery", "pf-aer-vf-outage", "pf-aer-vm-hang", "unplug-while-booting"),
    "vf-dead-after-fatal-recovery",
}
#: cases of which either takes long; their kind is in `make test` with another case
LONG = (
    *("aer-passthrough", "nvme-behind-a-lost-link", "vfio-device-add", "vm-own-recovery"),
    "pf-closes-its-port",
)


def _cells(*cases: str, shown: Role | None = None) -> list[object]:
    """Return the cells of cases: the first of its role is for `make test`, the others are for `make test-all`."""
    params = []
    for case in cases:
        cells = load_case(case).cells
        role = shown or (Role.CONTROL if case in CONTROL_ONLY else Role.FAILING)
        first = next(cell for cell in cells if cell.role is role)
        for cell in cells:
            seconds = 40 if cell.image == "level1" else 25 if cell.expected == "bad" else 10
            marks = [pytest.mark.seconds(seconds)]
            marks += [] if cell is first and case not in LONG else [pytest.mark.extended]
            params.append(pytest.param(cell, id=f"{case}: {cell.id}", marks=marks))
    return list(params)


@pytest.mark.parametrize("cell", _cells(*CASES.names()))
async def test_a_cell_gives_its_documented_verdict(cell: Cell, testbed_try: Judge) -> None:
    outcome = await _tried(testbed_try, cell)
    assert outcome.disagreement == ""
    assert outcome.kernel_cmdline == f"console=ttyS0 {cell.cmdline}".rstrip()
    _check_rundir(outcome.rundir)


@pytest.mark.extended
@pytest.mark.parametrize("cell", _cells(*(name for name in CASES.names() if name != THRICE)))
async def test_a_cell_is_judged_alike_when_booted_for_it_in_real_time(cell: Cell, testbed_try: Judge) -> None:
    default = await _tried(testbed_try, cell)
    if (default.start, default.time) == ("fresh", "real"):
        pytest.skip("that is its only way")
    plain = await _tried(testbed_try, cell.model_copy(update={"time": "real", "start": "fresh"}))
    assert _seen(plain) == _seen(default)
    _check_latencies(plain, default)


async def _tried(testbed_try: Judge, cell: Cell) -> Outcome:
    try:
        return await testbed_try(**cell.model_dump())
    except LackingError as lacking:
        pytest.skip(f"{lacking} ({lacking.remedy})")


@pytest.mark.parametrize("cell", _cells(THRICE, shown=Role.CONTROL))
async def test_a_cell_gives_its_documented_verdict_in_real_time_warped_and_warm(
    cell: Cell, testbed_try: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTBED_SNAPSHOTS", str(tmp_path / "snapshots"))
    fields = cell.model_dump()
    real = await _tried(testbed_try, cell.model_copy(update={"time": "real", "start": "fresh"}))
    warped = await testbed_try(**fields)
    warm = await testbed_try(**fields)
    assert (real.time, warped.time, warm.time) == ("real", "warped", "warped")
    assert (real.start, warped.start, warm.start) == ("fresh", "fresh", "warm")
    assert _seen(real) == _seen(warped) == _seen(warm)
    if not cell.first:  # a crontab goes by the clock
        _check_latencies(real, warped, warm)
    for outcome in (real, warped, warm):
        assert outcome.disagreement == ""
        assert outcome.kernel_cmdline == f"console=ttyS0 {cell.cmdline}".rstrip()
        if cell.expected is Verdict.BAD:
            assert "ASPM ClockPM" in outcome.reason
            assert "suspect: pcie_aspm=off" in outcome.reason
        _check_rundir(outcome.rundir)


def _seen(outcome: Outcome) -> tuple[Any, ...]:
    return outcome.verdict, outcome.outcome, {finding.subject for finding in outcome.findings}


def _latency(outcome: Outcome) -> float | None:
    """Return the guest seconds in the reason of an obeyed request: `released after 6.2 s`, `in sysfs after 0.2 s`."""
    found = re.match(r"(?:released|in sysfs) after ([\d.]+) s", outcome.reason)
    return float(found[1]) if found else None


def _check_latencies(real: Outcome, *others: Outcome) -> None:
    wanted = _latency(real)
    for other in others:
        seen = _latency(other)
        if wanted is None or seen is None:
            assert seen == wanted
        else:
            assert abs(seen - wanted) <= max(0.5, 0.1 * wanted)


def _check_rundir(rundir: str) -> None:
    wanted = "machine.yaml argv.json console.log kernel.log qmp.jsonl qemu.log outcome.json reproduce.sh"
    folder = Path(rundir)
    assert {name for name in wanted.split() if not (folder / name).exists()} == set()
    assert "Linux version" in (folder / "kernel.log").read_text()


@pytest.mark.seconds(15)
@pytest.mark.parametrize("hotplug", ["native", pytest.param("acpi", marks=pytest.mark.extended)])
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

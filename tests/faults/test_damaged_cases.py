"""A case is reproduced only by the bug it names: a guest or a QEMU that fails otherwise makes it differ."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.case import load_case
from testbed.campaign.cell.run import run_cell
from testbed.campaign.prepared import prepare_cell
from testbed.campaign.run import exit_code, summarize
from testbed.host.host import LocalHost
from testbed.model.outcome import CaseResult, Role, Verdict
from tests.faults.test_guest_faults import NOWHERE, jump_in_the_kernel
from tests.qemu.conftest import processes_naming

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from testbed.campaign.prepared import PreparedCell
    from testbed.guest.guest import Guest
    from testbed.model.outcome import Cell, Judgement, Outcome
    from testbed.pytest_plugin import Judge
    from testbed.scenarios.trial import Trial

    Damage = Callable[[Guest], Awaitable[object]]

CASE = "pcie-aspm-off"


def failing_cell() -> Cell:
    """Return the first cell of the case that documents an ignored request, in real time."""
    cells = load_case(CASE).cells
    cell = next(cell for cell in cells if cell.role is Role.FAILING and cell.scenario == "disk-unplug")
    return cell.model_copy(update={"time": "real", "start": "fresh"})


def damaged(prepared: PreparedCell, damage: Damage) -> PreparedCell:
    """Return a cell whose guest or QEMU is damaged right after the stimulus."""

    async def run(trial: Trial) -> Judgement:
        stimulus, tasks = trial.stimulus, []

        def damaging(request: str) -> None:
            stimulus(request)
            tasks.append(asyncio.ensure_future(damage(trial.guest)))

        trial.stimulus = damaging  # type: ignore[method-assign]
        try:
            return await prepared.scenario.run(trial)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return replace(prepared, scenario=replace(prepared.scenario, run=run))


async def panic(guest: Guest) -> None:
    await guest.shell.run("echo c > /proc/sysrq-trigger")


async def oops(guest: Guest) -> None:
    await guest.shell.start("cat /dev/zero > /dev/null")  # somebody who is often in the kernel
    await jump_in_the_kernel(guest, NOWHERE)


async def abort(guest: Guest) -> None:
    for pid in processes_naming(guest.machine.rundir):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGABRT)


DAMAGES = {
    "a panic": (panic, "crashed", "panic"),
    "an Oops": (oops, "crashed", "oops"),
    "QEMU's abort": (abort, "qemu-crashed", "SIGABRT"),
}


async def outcome_of(cell: Cell, folder: Path, damage: Damage) -> Outcome:
    prepared = damaged(prepare_cell(cell, progress=lambda _: None), damage)
    async with LocalHost() as host:
        return await run_cell(prepared, host=host, rundir=folder / "cell", progress=lambda _: None)


@pytest.mark.seconds(20)
@pytest.mark.parametrize(
    "name", ["a panic", *(pytest.param(name, marks=pytest.mark.extended) for name in DAMAGES if name != "a panic")]
)
async def test_bad_for_another_reason_is_not_the_documented_bug(name: str, tmp_path: Path) -> None:
    damage, word, cause = DAMAGES[name]
    cell = failing_cell()
    outcome = await outcome_of(cell, tmp_path, damage)
    assert (outcome.verdict, outcome.outcome) == (Verdict.BAD, word), outcome.reason
    assert outcome.verdict is cell.expected
    assert f"{word} instead of {cell.expected_outcome}" in outcome.disagreement
    assert cause in outcome.disagreement
    report = summarize(CASE, [outcome])
    assert (report.result, exit_code(report)) == (CaseResult.DIFFERS, 1)


@pytest.mark.seconds(15)
async def test_a_recovery_that_fails_makes_its_case_differ(testbed_try: Judge) -> None:
    """Put a function beside the card whose driver has no error_detected callback: it vetoes the recovery."""
    name = "aer-endpoint-recovery"
    cells = load_case(name).cells
    cell = next(each for each in cells if each.expected_outcome == "recovered" and "severity" in each.options)
    beside = {**cell.parameters, "devices": [*cell.parameters["devices"], "virtio-net"], "functions": 2}
    outcome = await testbed_try(**{**cell.model_dump(), "parameters": beside, "options": {"severity": "non-fatal"}})
    assert (outcome.verdict, outcome.outcome) == (Verdict.BAD, "vetoed"), outcome.reason
    assert outcome.disagreement == "bad (vetoed) instead of good (recovered)"
    assert summarize(name, [outcome]).result is CaseResult.DIFFERS

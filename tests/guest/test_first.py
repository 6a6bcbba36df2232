"""`--first`: a guest command prepares the starting state, is part of what is saved, and its failure is no verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.campaign.cell.start import start_key
from testbed.model.outcome import Verdict
from tests.guest.conftest import prepared

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.pytest_plugin import BootFactory, Judge

SCENARIO = '''
from testbed.api import Finding, Judgement, Trial, Verdict, scenario


@scenario()
async def finds_the_state(trial: Trial) -> Judgement:
    """Is the guest prepared?"""
    trial.stimulus("cat /tmp/state")
    seen = await trial.guest.shell.run("cat /tmp/state")
    finding = Finding(subject="state", expected="prepared", observed=seen.text or "nothing", evidence=seen.evidence)
    good = seen.text == "prepared"
    return Judgement(
        verdict=Verdict.GOOD if good else Verdict.BAD, outcome="found", reason=seen.text or "none", findings=(finding,)
    )
'''


@pytest.mark.seconds(20)
async def test_it_is_run_before_the_scenario_and_its_effect_is_saved(
    testbed_try: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESTBED_SNAPSHOTS", str(tmp_path / "snapshots"))
    file = tmp_path / "finds_the_state.py"
    file.write_text(SCENARIO)
    for start in ("fresh", "warm"):
        outcome = await testbed_try(str(file), "i440fx", first="echo prepared > /tmp/state")
        assert (outcome.start, outcome.verdict, outcome.first) == (start, Verdict.GOOD, "echo prepared > /tmp/state")
    assert (await testbed_try(str(file), "i440fx")).verdict is Verdict.BAD


@pytest.mark.seconds(10)
async def test_its_failure_is_broken_and_named(testbed_try: Judge) -> None:
    outcome = await testbed_try("disk-present", "i440fx", first="echo no such luck >&2; exit 3")
    assert (outcome.verdict, outcome.outcome) == (Verdict.BROKEN, "broken")
    assert "ended with 3" in outcome.reason
    assert "no such luck" in outcome.reason
    assert "--first" in (outcome.hint or "")


@pytest.mark.seconds(5)
async def test_a_booted_guest_has_it_too(testbed_boot: BootFactory) -> None:
    async with testbed_boot("i440fx", first="echo prepared > /tmp/state") as guest:
        assert await guest.shell.succeed("cat /tmp/state") == "prepared"


def test_what_is_saved_is_told_apart_by_it() -> None:
    keys = {start_key(prepared("disk-unplug", machine="i440fx", first=first)) for first in ("", "true", "sleep 1")}
    assert len(keys) == 3

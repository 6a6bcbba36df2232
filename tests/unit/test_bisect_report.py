"""What a bisect leaves: JSON that fits its schema, a log of commands, and an answer that can be pasted."""

from __future__ import annotations

import io
import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from testbed.campaign.bisect.over_given import options_of
from testbed.campaign.bisect.report import bisect_report
from testbed.campaign.bisect.result import ElementState
from testbed.model.bisect import BisectReport
from testbed.report.bisect import LiveBisect, print_bisect
from testbed.report.bisect_log import log_end, log_head, log_trial
from testbed.report.json_file import bisect_json, schema
from tests.unit.bisect_bed import NO_BOOT, PaperBed, cell, run, with_options

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.campaign.bisect.run import Bisected

LINE = " ".join(f"option_with_a_long_name_{number}" for number in range(12))
CULPRITS = ("option_with_a_long_name_3", "option_with_a_long_name_7")
PROMISED = {"schema", "culprits", "sets", "remedy", "aside", "boots", "rounds", "trials", "goal", "over", "proven"}


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bisected:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    hangs = "option_with_a_long_name_5"
    PaperBed(lambda each: NO_BOOT if hangs in each.cmdline else with_options(*CULPRITS)(each)).install(monkeypatch)
    return run(f"{LINE} rdinit=/bin/sh", tmp_path)


def printed(report: BisectReport) -> str:
    console = Console(file=io.StringIO(), width=80)
    print_bisect(report, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_the_json_has_just_the_keys_of_its_schema(done: Bisected) -> None:
    root = json.loads(schema("bisect"))
    written = json.loads(bisect_json(bisect_report(done)))
    assert PROMISED <= set(written) == set(root["required"])
    for kind, name in (("sets", "BisectSet"), ("trials", "BisectTrial"), ("aside", "BisectAside")):
        for each in written[kind]:
            assert set(each) == set(root["$defs"][name]["required"])
    assert BisectReport.model_validate(written) == bisect_report(done)


def test_the_answer_is_a_flat_list_beside_its_sets(done: Bisected) -> None:
    written: dict[str, Any] = json.loads(bisect_json(bisect_report(done)))
    assert tuple(written["culprits"]) == CULPRITS
    assert [tuple(each["elements"]) for each in written["sets"]] == [CULPRITS]
    assert [each["element"] for each in written["aside"]] == ["rdinit=/bin/sh", "option_with_a_long_name_5"]
    assert written["schema"] == 1


def test_the_remedy_is_one_line_however_narrow_the_terminal(done: Bisected) -> None:
    report = bisect_report(done)
    assert report.remedy is not None
    assert len(report.remedy) > 80
    assert report.remedy in printed(report).splitlines()


def test_the_answer_names_culprits_proof_and_what_was_set_aside(done: Bisected) -> None:
    text = printed(bisect_report(done))
    assert f"culprit {' '.join(CULPRITS)}: proven, bad with only them, good without any one of them" in text
    assert "set aside rdinit=/bin/sh: it takes over the test bed's channel" in text
    assert "set aside option_with_a_long_name_5: with it the guest does not reach the stimulus" in text
    assert f"--cmdline '{' '.join(CULPRITS)}'" in text


def test_what_a_model_brings_about_is_not_called_proven(done: Bisected) -> None:
    report = bisect_report(done).model_copy(update={"modelled": "accesses are begun again (erratum 1096)"})
    for text in (printed(report), log_end(report)):
        assert "by the model's definition" in text
        assert "proven" not in text
    assert bisect_report(done).modelled == ""


def test_what_is_not_proven_is_not_called_so(done: Bisected) -> None:
    report = bisect_report(done)
    unsure = report.sets[0].model_copy(update={"proven": False, "unsettled": CULPRITS[:1]})
    changed = report.model_copy(
        update={"sets": (unsure,), "incomplete": "no clear answer", "candidates": CULPRITS[:1], "proven": False}
    )
    text = printed(changed)
    assert f"not proven, bad with only them; perhaps not needed: {CULPRITS[0]}" in text
    assert "not proven no clear answer" in text


def test_each_trial_in_the_log_is_a_command_that_makes_it_again(done: Bisected) -> None:
    trials = done.result.trials
    text = log_head("testbed bisect …", done.elements)
    text += "".join(
        log_trial(done.elements, trial, done.tried[frozenset(trial.subset), trial.attempt]) for trial in trials
    )
    text += log_end(bisect_report(done))
    commands = [shlex.split(line) for line in text.splitlines()[1:] if not line.startswith("#")]
    assert [command[:3] for command in commands] == [["testbed", "run", "disk-unplug"]] * len(trials)
    lines = [command[command.index("--cmdline") + 1] if "--cmdline" in command else "" for command in commands]
    assert lines == [done.elements.cell(frozenset(trial.subset)).cmdline for trial in trials]
    assert f"# culprit (proven): {' '.join(CULPRITS)}" in text
    assert f"# good: {bisect_report(done).remedy}" in text


def test_a_log_file_gets_a_line_for_each_trial_and_those_under_suspicion(done: Bisected) -> None:
    console = Console(file=io.StringIO(), width=160)
    heard = []
    with LiveBisect(done.elements, console, on_answer=lambda trial, tried: heard.append(trial)) as live:
        for trial in done.result.trials:
            live.answered(trial, done.tried[frozenset(trial.subset), trial.attempt])
        live.states((ElementState.SUSPECT, ElementState.SUSPECT, *[ElementState.CLEARED] * 10))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert heard == list(done.result.trials)
    assert "  1 end   unresolved all 12 options: the guest: no-boot" in text
    assert "2 options under suspicion: option_with_a_long_name_0 option_with_a_long_name_1" in text
    assert "\x1b" not in text


def test_the_live_view_colours_each_element_by_what_is_known_of_it() -> None:
    elements = options_of(cell("alpha beta gamma"))
    live = LiveBisect(elements, Console(file=io.StringIO()), on_answer=lambda trial, tried: None)
    live.states((ElementState.CLEARED, ElementState.CULPRIT, ElementState.ASIDE))
    live.phase(frozenset({0}), 1, "booting")
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="standard", legacy_windows=False)
    console.print(live)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[2;9malpha" in text
    assert "\x1b[1;31mbeta" in text
    assert "only alpha: booting" in text

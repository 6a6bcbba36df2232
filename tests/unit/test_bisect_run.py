"""A bisect around its search: what is a guest's fault and what the bed's, memory, the cache, and bad ends."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.campaign.bisect.over_given import options_of, remedies_for
from testbed.campaign.bisect.record import TRIALS
from testbed.campaign.bisect.report import bisect_exit, bisect_report
from testbed.campaign.bisect.result import Goal
from testbed.campaign.cell.judge import REJECTED
from testbed.model.errors import BrokenError, InputError, UnsupportedError
from testbed.model.outcome import Cell, Verdict
from tests.unit.bisect_bed import BAD, GOOD, NO_BOOT, Notes, PaperBed, Said, cell, run, with_options

if TYPE_CHECKING:
    from testbed.campaign.bisect.elements import Elements
    from testbed.campaign.bisect.run import Bisected

LINE = " ".join(f"o{number}" for number in range(16))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))


def bed(monkeypatch: pytest.MonkeyPatch, rule: object) -> PaperBed:
    made = PaperBed(rule)  # type: ignore[arg-type]
    made.install(monkeypatch)
    return made


def test_the_culprit_is_found_and_the_remedy_is_the_line_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = bed(monkeypatch, with_options("o5"))
    report = bisect_report(run(LINE, tmp_path))
    assert (report.culprits, report.proven, bisect_exit(report)) == (("o5",), True, 0)
    assert report.remedy == LINE.replace(" o5", "")
    assert report.boots == len(report.trials) == len(paper.ran) <= 8
    assert all(each.start == "fresh" for each in paper.ran)
    (found,) = report.sets
    assert found.command == "testbed run disk-unplug --machine q35 --cmdline o5"
    assert [(change.with_set, change.without) for change in found.changes] == [("ignored", "deleted")]
    assert all(Path(trial.rundir).parent == tmp_path for trial in report.trials)


def test_pairs_take_fewer_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed(monkeypatch, with_options("o5"))
    assert bisect_report(run(LINE, tmp_path, parallel=2)).rounds <= 6


def test_a_guest_that_does_not_boot_gets_twice_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(each: Cell) -> Said:
        hungry = "o3" in each.cmdline.split() and each.parameters.get("memory", 512) < 1024
        return NO_BOOT if hungry else with_options("o5")(each)

    notes = Notes()
    bed(monkeypatch, rule)
    report = bisect_report(run(LINE, tmp_path, notes=notes))
    assert report.culprits == ("o5",)
    assert report.aside == ()
    assert report.remedy == LINE.replace(" o5", "")
    assert any("1024 MiB" in note for note in report.notes)
    assert any("trying with 1024 MiB" in note for note in notes.notes)
    assert report.boots > len(report.trials)  # the starved boots are counted too
    assert "-p memory=1024" in report.sets[0].command


def test_what_more_memory_does_not_mend_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed(monkeypatch, lambda each: NO_BOOT if "o3" in each.cmdline.split() else with_options("o5")(each))
    report = bisect_report(run(LINE, tmp_path))
    assert report.culprits == ("o5",)
    assert [each.element for each in report.aside] == ["o3"]
    assert "no-boot" in report.aside[0].reason
    assert report.remedy == LINE.replace(" o3", "").replace(" o5", "")


@pytest.mark.parametrize("word", ["lost", "bed-error", "refused"])
def test_a_fault_of_the_beds_own_ends_the_bisect(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(each: Cell) -> Said:
        return (Verdict.BROKEN, word) if 0 < len(each.cmdline.split()) < 16 else with_options("o5")(each)

    bed(monkeypatch, rule)
    with pytest.raises(BrokenError, match=f"the guest: {word}") as error:
        run(LINE, tmp_path)
    assert f"testbed bisect --resume {tmp_path}" in (error.value.hint or "")


def test_an_end_that_cannot_run_here_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed(monkeypatch, lambda _: (Verdict.SKIP, "unsupported"))
    with pytest.raises(UnsupportedError, match="unsupported"):
        run(LINE, tmp_path)


def test_an_end_that_qemu_refuses_is_wrong_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed(monkeypatch, lambda _: (Verdict.BROKEN, REJECTED))
    with pytest.raises(InputError, match=REJECTED):
        run(LINE, tmp_path)


def test_a_subset_that_qemu_refuses_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half of two machines' differences may be no machine."""

    def rule(each: Cell) -> Said:
        options = set(each.cmdline.split())
        return (Verdict.BROKEN, REJECTED) if ("o1" in options) != ("o2" in options) else with_options("o5")(each)

    bed(monkeypatch, rule)
    report = bisect_report(run("o1 o2 o3 o4 o5 o6", tmp_path))
    assert report.culprits == ("o5",)


@pytest.mark.parametrize(
    ("said", "goal", "hint"),
    [
        (GOOD, Goal.CULPRIT, "the symptom does not occur"),
        (BAD, Goal.CULPRIT, "--goal remedy"),
        (BAD, Goal.REMEDY, "none of them fixes it"),
        (NO_BOOT, Goal.CULPRIT, "the stimulus is not reached without them either"),
    ],
)
def test_ends_that_agree_are_told_with_their_reasons(
    said: Said, goal: Goal, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed(monkeypatch, lambda _: said)
    elements = options_of(cell(LINE)) if goal is Goal.CULPRIT else remedies_for(cell("quiet"), ["a", "b"])
    with pytest.raises(InputError, match="with none of them") as error:
        run(elements, tmp_path, goal=goal)
    assert error.value.message.count(f"the guest: {said[1]}") == 2
    assert hint in (error.value.hint or "")


def test_ends_the_other_way_round_name_the_other_goal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed(monkeypatch, lambda each: BAD if not each.cmdline else GOOD)
    with pytest.raises(InputError) as error:
        run(LINE, tmp_path)
    assert "--goal remedy" in (error.value.hint or "")


def remedies(*names: str) -> Elements:
    return remedies_for(cell("quiet bug"), names)


def test_a_remedy_is_found_among_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed(monkeypatch, lambda each: GOOD if "cure" in each.cmdline.split() else BAD)
    report = bisect_report(run(remedies("a", "b", "cure", "c"), tmp_path, goal=Goal.REMEDY))
    assert (report.culprits, report.remedy, report.proven) == (("cure",), "quiet bug cure", True)


def test_candidates_that_hinder_each_other_are_tried_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(each: Cell) -> Said:
        options = each.cmdline.split()
        return GOOD if "cure" in options and "hinders" not in options else BAD

    bed(monkeypatch, rule)
    report = bisect_report(run(remedies("a", "cure", "hinders"), tmp_path, goal=Goal.REMEDY))
    assert (report.culprits, report.remedy) == (("cure",), "quiet bug cure")
    assert report.sets[0].proven
    assert any("each was tried alone" in note for note in report.notes)


def test_a_bisect_that_goes_on_in_its_rundir_tries_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = bed(monkeypatch, with_options("o5"))
    first = bisect_report(run(LINE, tmp_path))
    second = bisect_report(run(LINE, tmp_path))
    assert (second.boots, second.culprits) == (0, first.culprits)
    assert all(trial.cached for trial in second.trials)
    assert len(paper.ran) == first.boots
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert bisect_report(run(LINE, elsewhere)).boots == first.boots


def test_an_interrupted_bisect_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = len(bisect_report(interrupted(monkeypatch, tmp_path)).trials)
    for after in range(1, whole):
        folder = tmp_path / str(after)
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            interrupted(monkeypatch, folder, after=after)
        report = bisect_report(interrupted(monkeypatch, folder))
        assert (report.boots, report.culprits) == (whole - after, ("o5",))


def interrupted(monkeypatch: pytest.MonkeyPatch, rundir: Path, after: int | None = None) -> Bisected:
    ran = 0

    def rule(each: Cell) -> Said:
        nonlocal ran
        if ran == after:
            raise KeyboardInterrupt
        ran += 1
        return with_options("o5")(each)

    bed(monkeypatch, rule)
    return run(LINE, rundir)


def test_a_damaged_line_of_the_record_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed(monkeypatch, with_options("o5"))
    run(LINE, tmp_path)
    lines = (tmp_path / TRIALS).read_bytes().splitlines(keepends=True)
    (tmp_path / TRIALS).write_bytes(lines[0].replace(b"ignored", b"deleted") + b"".join(lines[1:]) + b'{"half')
    report = bisect_report(run(LINE, tmp_path))
    assert (report.boots, report.culprits) == (1, ("o5",))


def test_what_was_broken_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bed(monkeypatch, lambda each: NO_BOOT if "o3" in each.cmdline.split() else with_options("o5")(each))
    unresolved = [trial for trial in bisect_report(run(LINE, tmp_path)).trials if not trial.cached]
    again = bisect_report(run(LINE, tmp_path))
    broken = [trial for trial in unresolved if trial.answer == "unresolved"]
    assert broken
    assert [trial.number for trial in again.trials if not trial.cached] == [trial.number for trial in broken]


def test_repeated_trials_are_each_a_boot_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = bed(monkeypatch, with_options("o5"))
    report = bisect_report(run("o4 o5", tmp_path, repeat=3))
    assert len(paper.ran) == report.boots == len(report.trials)
    assert {trial.attempt for trial in report.trials} == {1, 2, 3}


def test_a_flaky_verdict_is_reported_and_not_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0

    def rule(each: Cell) -> Said:
        nonlocal count
        count += 1
        flaky = each.cmdline == "o5" and count % 2 == 0
        return GOOD if flaky else with_options("o5")(each)

    bed(monkeypatch, rule)
    report = bisect_report(run("o4 o5 o6", tmp_path, repeat=3))
    assert report.disagreements
    assert set(report.disagreements[0].answers) == {"good", "bad"}

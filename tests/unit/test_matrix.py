"""From a matrix file, or options, to cells; and from results to what changed since an earlier matrix."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from testbed.campaign.matrix.baseline import axes_of, compare, read_baseline, summarized
from testbed.campaign.matrix.file import option_row, read_source, recorded_source
from testbed.campaign.matrix.matrix import MANY_CELLS, Matrix, expand
from testbed.campaign.matrix.results import RESULTS, Results, expected_seconds
from testbed.campaign.matrix.tally import Tally
from testbed.model.errors import InputError
from testbed.model.matrix import MatrixReport, MatrixRow, MatrixRun
from testbed.model.outcome import Verdict
from testbed.report.matrix import print_comparison, print_matrix
from testbed.report.matrix_json import write_matrix_json

from .outcomes import outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from testbed.model.outcome import Outcome

NATIVE = "q35[hotplug=native]"
FILE = """\
kind: matrix
title: who releases a disk
axes:
  scenario: [disk-unplug, disk-plug]
  machine: [q35, "q35[hotplug=native]", i440fx]
  cmdline: ["", pcie_aspm=off]
"""


def matrix(tmp_path: Path, text: str, **options: Any) -> Matrix:
    path = tmp_path / "matrix.yaml"
    path.write_text(text)
    return expand(read_source(path, options))


def said(**options: Any) -> Matrix:
    return expand(read_source(None, {"scenario": ["disk-unplug"], **options}))


def test_every_combination_is_a_cell(tmp_path: Path) -> None:
    cells = matrix(tmp_path, FILE, accel=["tcg"])
    assert len(cells) == 2 * 3 * 2
    assert cells[3].id == "disk-unplug q35[hotplug=native]{accel=tcg} pcie_aspm=off"
    assert {cell.accel for cell in cells} == {"tcg"}
    assert cells[3].parameters == {"hotplug": "native"}


def test_exclude_leaves_out_and_include_adds_cells_with_their_verdict(tmp_path: Path) -> None:
    rules = """\
exclude:
  - {machine: i440fx, cmdline: pcie_aspm=off}
  - {scenario: disk-p*, machine: q35*}
include:
  - {scenario: disk-present, machine: q35, cmdline: acpi=off, verdict: bad}
"""
    cells = matrix(tmp_path, FILE + rules)
    ids = [cell.id for cell in cells]
    assert len(ids) == 12 - 2 - 4 + 1
    assert "disk-unplug i440fx pcie_aspm=off" not in ids
    assert not [name for name in ids if name.startswith("disk-plug q35")]
    assert (ids[-1], cells[len(cells) - 1].expected) == ("disk-present q35 acpi=off", Verdict.BAD)
    assert [cell.expected for cell in cells[: len(cells) - 1]] == [None] * 6


def test_the_last_rule_that_fits_says_the_verdict_and_unstable_cells_their_reason(tmp_path: Path) -> None:
    rules = """\
expect:
  - {machine: "q35*", verdict: good}
  - {machine: "q35[hotplug=native]", cmdline: pcie_aspm=off, verdict: bad}
unstable:
  - {scenario: disk-plug, machine: i440fx, reason: flaky under load}
"""
    cells = matrix(tmp_path, FILE + rules)
    verdicts = {cell.id: cell.expected for cell in cells}
    assert verdicts["disk-unplug q35 pcie_aspm=off"] is Verdict.GOOD
    assert verdicts["disk-unplug q35[hotplug=native] pcie_aspm=off"] is Verdict.BAD
    assert verdicts["disk-unplug i440fx"] is None
    unstable = {cells[n].id: cells.unstable_reason(cells.place(n)) for n in range(len(cells))}
    assert unstable["disk-plug i440fx"] == "flaky under load"
    assert unstable["disk-unplug i440fx"] == ""


def test_parameters_and_cpu_are_merged_into_the_machine() -> None:
    cells = said(machine=[NATIVE], parameters=["cpus=2,devices=virtio-blk,virtio-net", ""], cpu=["max,smap=off"])
    assert cells[0].parameters == {
        "hotplug": "native",
        "cpus": 2,
        "devices": ["virtio-blk", "virtio-net"],
        "cpu": "max,smap=off",
    }
    assert cells[1].parameters == {"hotplug": "native", "cpu": "max,smap=off"}


def test_repeats_of_a_cell_stand_together() -> None:
    cells = said(machine=["q35", "i440fx"], repeat=3)
    assert [cells[n].machine for n in range(6)] == ["q35"] * 3 + ["i440fx"] * 3
    assert [cells.attempt(n) for n in range(6)] == [1, 2, 3, 1, 2, 3]


def test_options_replace_an_axis_of_the_file_and_add_to_its_rules(tmp_path: Path) -> None:
    cells = matrix(tmp_path, FILE, cmdline=["pci=noaer"], exclude=[option_row("machine=i440fx")])
    assert [cell.id for cell in cells] == [
        "disk-unplug q35 pci=noaer",
        "disk-unplug q35[hotplug=native] pci=noaer",
        "disk-plug q35 pci=noaer",
        "disk-plug q35[hotplug=native] pci=noaer",
    ]


def test_what_a_rundir_remembers_is_the_same_matrix(tmp_path: Path) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(FILE + "repeat: 2\n")
    source = read_source(path, {"exclude": [option_row("machine=i440fx; cmdline=")]})
    record = tmp_path / "matrix.json"
    record.write_text(source.record)
    assert list(expand(recorded_source(record))) == list(expand(source))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("axes:\n  scenario: [disk-unplug]\n  machne: [q35]\n", 3, "axis 'machne' does not exist"),
        ("axes:\n  scenario:\n    - disk-unplug\n    - disk-unplgu\n", 4, "'disk-unplgu' does not exist"),
        ("axes:\n  scenario: disk-unplug\n  machine: q35[hotplug=natve]\n", 3, "hotplug: got 'natve'"),
        ("axes:\n  scenario: disk-unplug\n  machine: q35[hotplug=native\n", 3, "at character 19: expected ',' or ']'"),
        ("axes:\n  scenario: disk-unplug\n  accel: [xen]\n", 3, "accelerator 'xen' does not exist"),
        ("axes:\n  scenario: disk-unplug\n  cmdline: [a, b, a]\n", 3, "'a' is given twice"),
        ("axes:\n  machine: q35\n", 2, "there is no scenario"),
        ("axes:\n  scenario: disk-unplug\nexclude:\n  - {cmdline: quiet}\n", 4, "cmdline: 'quiet' does not exist"),
        ("axes:\n  scenario: disk-unplug\nexclude:\n  - {}\n", 4, "names no axis"),
        ("axes:\n  scenario: disk-unplug\nexpect:\n  - {machine: q35, verdict: fine}\n", 4, "verdict"),
        ("axes:\n  scenario: disk-unplug\nrepeat: 0\n", 3, "repeat"),
        (
            "axes:\n  scenario: disk-unplug\n  machine: [q35, i440fx]\ninclude:\n  - {cmdline: quiet}\n",
            5,
            "which machine?",
        ),
    ],
)
def test_a_mistake_is_named_by_file_and_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        matrix(tmp_path, text)
    assert message in caught.value.message
    assert caught.value.message.startswith(f"{tmp_path}/matrix.yaml:{line}: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclude": [option_row("scenario=*")]}, "0 cells"),
        ({"repeat": 1000, "cmdline": [f"x={n}" for n in range(101)]}, f"101000 cells, more than {MANY_CELLS}"),
        ({"machine": ["q35[cpus=2]"], "parameters": ["cpus=4"]}, "cpus is given twice"),
        ({"parameters": ["cpu=4"], "cpu": ["max"]}, "cpu is given twice"),
    ],
)
def test_a_matrix_that_cannot_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        said(**options)


def test_more_cells_are_run_if_that_is_said() -> None:
    source = read_source(None, {"scenario": ["disk-unplug"], "repeat": 1000, "cmdline": [f"x={n}" for n in range(101)]})
    cells = expand(source, many=True)
    assert len(cells) == 101_000
    assert cells[100_999].cmdline == "x=100"


@pytest.mark.parametrize("text", ["machine", "machine=q35; cmdline", ""])
def test_a_row_of_an_option_names_axes(text: str) -> None:
    with pytest.raises(InputError, match="AXIS=VALUE"):
        option_row(text)


words = st.lists(st.sampled_from(["quiet", "pcie_aspm=off", "pci=nomsi", "a", "b c"]), unique=True, min_size=1)


@settings(deadline=None, max_examples=40)
@given(words, st.sets(st.sampled_from(["q35", "i440fx"]), min_size=1), st.data())
def test_the_cells_are_those_of_the_product_that_no_rule_excludes(
    cmdlines: list[str], machines: set[str], data: st.DataObject
) -> None:
    gone = data.draw(st.lists(st.tuples(st.sampled_from(sorted(machines)), st.sampled_from(cmdlines)), max_size=3))
    left = {(machine, cmdline) for machine in machines for cmdline in cmdlines} - set(gone)
    rows = [{"machine": [machine], "cmdline": [cmdline]} for machine, cmdline in gone]
    options = {"machine": sorted(machines), "cmdline": cmdlines, "exclude": rows}
    if not left:
        with pytest.raises(InputError, match="0 cells"):
            said(**options)
        return
    cells = said(**options)
    assert sorted((cell.machine, cell.cmdline) for cell in cells) == sorted(left)
    # a cell's place on the axes names it
    labels = [tuple(cells.axes.labels(cells.place(n)).items()) for n in range(len(cells))]
    assert len(set(labels)) == len(cells)


def runs(*rows: tuple[str, Outcome], unstable: str = "") -> list[MatrixRun]:
    return [
        MatrixRun(index=n, row=MatrixRow(axes={"cmdline": cmdline}, unstable=unstable), outcome=each)
        for n, (cmdline, each) in enumerate(rows)
    ]


GOOD, BAD, SKIP, BROKEN = Verdict.GOOD, Verdict.BAD, Verdict.SKIP, Verdict.BROKEN


@pytest.mark.parametrize(
    ("before", "now", "expected", "regression"),
    [
        (GOOD, BAD, None, True),
        (GOOD, BROKEN, None, True),
        (SKIP, BAD, None, True),
        (BAD, BROKEN, None, True),
        (GOOD, SKIP, None, False),
        (BAD, GOOD, None, False),
        (BROKEN, BAD, None, False),
        (GOOD, BAD, BAD, False),
        (BAD, GOOD, BAD, True),
    ],
)
def test_a_verdict_that_got_worse_is_a_regression(
    before: Verdict, now: Verdict, expected: Verdict | None, regression: bool
) -> None:
    old = summarized((run.row, run.outcome) for run in runs(("quiet", outcome(before, expected))))
    new = summarized((run.row, run.outcome) for run in runs(("quiet", outcome(now, expected))))
    assert [change.regression for change in compare(old, new).changed] == [regression]
    (unstable,) = compare(
        old, summarized((run.row, run.outcome) for run in runs(("quiet", outcome(now)), unstable="why"))
    ).changed
    assert not unstable.regression


def test_cells_are_matched_by_their_axes_and_new_and_gone_ones_are_told() -> None:
    old = summarized((run.row, run.outcome) for run in runs(("a", outcome(GOOD)), ("b", outcome(GOOD))))
    new = summarized((run.row, run.outcome) for run in runs(("c", outcome(BAD)), ("b", outcome(GOOD))))
    comparison = compare(old, new)
    assert (comparison.changed, comparison.same) == ([], 1)
    assert [cell["cmdline"] for cell in (*comparison.new, *comparison.gone)] == ["c", "a"]
    assert {cell["machine"] for cell in (*comparison.new, *comparison.gone)} == {"q35"}


@pytest.mark.parametrize(
    ("verdict", "expected", "unstable", "passes"),
    [
        (GOOD, None, "", True),
        (SKIP, None, "", True),
        (BAD, BAD, "", True),
        (BAD, None, "flaky", True),
        (BAD, None, "", False),
        (BROKEN, None, "", False),
        (GOOD, BAD, "", False),
    ],
)
def test_a_new_cell_passes_only_if_it_is_as_expected(
    verdict: Verdict, expected: Verdict | None, unstable: str, *, passes: bool
) -> None:
    """A bad cell that the baseline did not have passed."""
    new = runs(("a", outcome(verdict, expected)), unstable=unstable)
    comparison = compare({}, summarized((run.row, run.outcome) for run in new))
    assert (comparison.passes, not comparison.new_bad, len(comparison.new)) == (passes, passes, 1)
    text = io.StringIO()
    print_comparison(comparison, Console(file=text, width=200))
    assert ("1 new (1 not as expected)" in text.getvalue()) == (not passes)


def test_a_baseline_without_an_axis_has_its_default_there() -> None:
    named = [MatrixRun(index=0, row=MatrixRow(axes={"machine": "q35", "first": ""}), outcome=outcome(GOOD))]
    (old,), (new,) = (summarized((run.row, run.outcome) for run in each) for each in (runs(("", outcome(GOOD))), named))
    assert old == new
    assert axes_of(old)["machine"] == "q35"


def test_the_grid_shows_a_default_beside_other_values() -> None:
    text = io.StringIO()
    console = Console(file=text, width=100)
    rows = [
        MatrixRun(index=n, row=MatrixRow(axes={"machine": machine, "cmdline": ""}), outcome=outcome(verdict))
        for n, (machine, verdict) in enumerate([("q35", GOOD), ("i440fx", BAD)])
    ]
    print_matrix(said(machine=["q35", "i440fx"]), rows, console, seconds=0, before=Tally())
    shown = [line.replace("│", " ").split() for line in text.getvalue().splitlines()]
    assert ["q35", "good"] in shown
    assert ["i440fx", "bad"] in shown


def test_the_most_frequent_verdict_of_repeats_counts_and_the_worse_of_two() -> None:
    def verdict(*verdicts: Verdict) -> Verdict:
        rows = runs(*(("a", outcome(each)) for each in verdicts))
        (summary,) = summarized((run.row, run.outcome) for run in rows).values()
        return summary.verdict

    assert verdict(GOOD, BAD, GOOD) is GOOD
    assert verdict(GOOD, BAD) is BAD


def written(tmp_path: Path, rows: Sequence[MatrixRun]) -> Path:
    head = MatrixReport(title="t", axes={"cmdline": ["a"]}, complete=True, rows=[], cells=[])
    text = io.StringIO()
    write_matrix_json(head, lambda: rows, text)
    path = tmp_path / "base.json"
    path.write_text(text.getvalue())
    return path


def test_the_json_fits_its_schema_and_is_a_baseline(tmp_path: Path) -> None:
    path = written(tmp_path, runs(("a", outcome(GOOD)), ("b", outcome(BAD))))
    report = MatrixReport.model_validate_json(path.read_text())
    assert [row.axes["cmdline"] for row in report.rows] == ["a", "b"]
    assert [cell.verdict for cell in report.cells] == [GOOD, BAD]
    assert [summary.verdict for summary in read_baseline(path).values()] == [GOOD, BAD]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, "is of schema 99"),
        ({"rows": None}, "rows"),
        ({"cells": [{}]}, "cells.0"),
    ],
)
def test_a_baseline_of_another_schema_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = written(tmp_path, runs(("a", outcome(GOOD))))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        read_baseline(path)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1, "cells": []}'])
def test_what_is_no_matrix_is_no_baseline(tmp_path: Path, text: str) -> None:
    path = tmp_path / "base.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is no"):
        read_baseline(path)


def test_results_go_to_the_disk_and_are_read_in_order(tmp_path: Path) -> None:
    first, second = runs(("a", outcome(GOOD, start="warm")), ("b", outcome(BAD, id="other")))
    with Results(tmp_path) as results:
        results.add(second)
        results.add(first)
        results.add(first)
        assert [run.index for run in results.runs()] == [0, 1]
    assert len((tmp_path / RESULTS).read_text().splitlines()) == 2
    assert expected_seconds([tmp_path]) == {"disk-unplug q35": 2.0}, "of those that were warm"


@given(st.integers(min_value=0))
def test_a_line_that_was_cut_off_runs_again(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    whole_run, folder = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("rundir")
    rows = runs(("a", outcome(GOOD)), ("b", outcome(BAD, reason="ü")))
    with Results(whole_run) as results:
        for run in rows:
            results.add(run)
    text = (whole_run / RESULTS).read_bytes()
    whole = text[: cut % (len(text) + 1)]
    (folder / RESULTS).write_bytes(whole)
    with Results(folder) as results:
        assert len(results) == whole.count(b"\n")
        for run in rows:
            results.add(run)
        assert list(results.runs()) == rows
    assert (folder / RESULTS).read_bytes() == text


def test_lines_of_a_version_that_did_not_seal_them_are_read(tmp_path: Path) -> None:
    rows = runs(("a", outcome(GOOD)), ("b", outcome(BAD)))
    (tmp_path / RESULTS).write_text("".join(run.model_dump_json() + "\n" for run in rows))
    with Results(tmp_path) as results:
        assert list(results.runs()) == rows


@pytest.mark.parametrize(
    ("verdicts", "code", "unexpected"),
    [
        ([(GOOD, None), (GOOD, GOOD)], 0, 0),
        ([(BAD, BAD), (SKIP, SKIP)], 0, 0),
        ([(BAD, None)], 1, 0),
        ([(GOOD, BAD)], 1, 1),
        ([(SKIP, GOOD), (GOOD, None)], 125, 0),
        ([(BROKEN, GOOD), (BAD, None)], 128, 1),
    ],
)
def test_the_worst_verdict_makes_the_exit_code(
    verdicts: list[tuple[Verdict, Verdict | None]], code: int, unexpected: int
) -> None:
    tally = Tally()
    for verdict, expected in verdicts:
        tally.count(outcome(verdict, expected), unstable=False)
    assert (tally.code, tally.unexpected, tally.runs) == (code, unexpected, len(verdicts))
    unstable = Tally()
    for verdict, expected in verdicts:
        unstable.count(outcome(verdict, expected), unstable=True)
    assert (unstable.code, unstable.unexpected, unstable.unstable) == (0, 0, len(verdicts))

"""From outcomes to a comparison: groups, differences, JSON and exit code."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from testbed.campaign.compare.comparison import compare, exit_code
from testbed.model.comparison import Column, Comparison
from testbed.model.fact import FACTS_FILE, Fact, FactKind, Facts
from testbed.model.outcome import Outcome, Verdict
from testbed.report.compare import print_comparison
from testbed.report.json_file import comparison_to_json, schema
from tests.unit.compared import fact, outcome

if TYPE_CHECKING:
    from pathlib import Path


def columns(*labels: str) -> list[Column]:
    return [Column(label=label, machine="q35") for label in labels]


def compared(*outcomes: Outcome, labels: tuple[str, ...] = ()) -> Comparison:
    names = labels or tuple(f"m{index}" for index in range(len(outcomes)))
    return compare(columns(*names), ["disk-unplug"], outcomes)


def printed(comparison: Comparison) -> str:
    text = io.StringIO()
    print_comparison(comparison, Console(width=200, file=text))
    return text.getvalue()


def left(rundir: Path, verdict: Verdict, *facts: Fact) -> Outcome:
    rundir.mkdir()
    (rundir / FACTS_FILE).write_bytes(Facts.dump_json(tuple(facts)))
    return outcome(verdict, 0.3, rundir=str(rundir))


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ([Verdict.GOOD, Verdict.GOOD], 0),
        ([Verdict.BAD, Verdict.BAD], 0),
        ([Verdict.GOOD, Verdict.BAD], 1),
        ([Verdict.GOOD, Verdict.SKIP], 125),
        ([Verdict.GOOD, Verdict.SKIP, Verdict.BAD], 1),
        ([Verdict.GOOD, Verdict.BROKEN], 128),
        ([Verdict.SKIP, Verdict.SKIP], 125),
    ],
)
def test_the_exit_code_says_whether_anything_differs(verdicts: list[Verdict], code: int) -> None:
    assert exit_code(compared(*(outcome(verdict, 1.0) for verdict in verdicts))) == code


def test_a_machine_its_qemu_refuses_is_skipped_beside_one_that_runs() -> None:
    refused = outcome(Verdict.BROKEN, outcome="rejected", reason="QEMU refused to start: no such bus")
    comparison = compared(refused, outcome(Verdict.GOOD, 0.3))
    assert comparison.cells[0].verdict is Verdict.SKIP
    assert exit_code(comparison) == 125
    assert "QEMU refused to start: no such bus" in printed(comparison)
    assert exit_code(compared(refused, refused)) == 2


def test_neighbours_collapse_and_facts_are_compared_where_it_changes(tmp_path: Path) -> None:
    labels = ("pc-q35-5.2", "pc-q35-6.0", "pc-q35-6.1", "pc-q35-6.2")
    served = [fact(FactKind.CONTROL, "hot-plug", who) for who in ("a", "nobody", "ACPI (acpiphp)", "b")]
    verdicts = (Verdict.BAD, Verdict.BAD, Verdict.GOOD, Verdict.GOOD)
    runs = [
        left(tmp_path / label, verdict, each) for label, verdict, each in zip(labels, verdicts, served, strict=True)
    ]
    comparison = compared(*runs, labels=labels)
    assert [group.columns for group in comparison.groups] == [labels[:2], labels[2:]]
    assert {tuple(each.values) for each in comparison.differences} == {labels[1:3]}
    text = printed(comparison)
    assert "pc-q35-5.2, 6.0: bad; 6.1, 6.2: good" in text
    assert "nobody" in text


def test_spans_of_many_versions_name_the_ends() -> None:
    labels = ("pc-q35-2.4", "pc-q35-4.0", "pc-q35-6.0", "pc-q35-6.1", "pc-i440fx-1.4")
    runs = [outcome(verdict, 1.0) for verdict in (Verdict.BAD,) * 3 + (Verdict.GOOD,) * 2]
    assert "pc-q35-2.4 … 6.0: bad; 6.1, pc-i440fx-1.4: good" in printed(compared(*runs, labels=labels))


def test_things_with_the_same_difference_share_a_row(tmp_path: Path) -> None:
    ports = [f"rp{n}" for n in (10, 2, 1)]
    on = [fact(FactKind.CAPABILITY, port, "HotPlug+", "slot") for port in ports]
    off = [fact(FactKind.CAPABILITY, port, "HotPlug-", "slot") for port in ports]
    text = printed(compared(left(tmp_path / "a", Verdict.GOOD, *on), left(tmp_path / "b", Verdict.GOOD, *off)))
    assert "rp1, rp2, rp10: slot" in text
    assert text.count("HotPlug+") == 1


def test_no_difference_is_said() -> None:
    assert "no difference" in printed(compared(outcome(Verdict.GOOD, 0.3), outcome(Verdict.GOOD, 0.4)))


def test_skipped_columns_are_compared_with_nothing() -> None:
    skipped, good = outcome(Verdict.SKIP, reason="no such machine type"), outcome(Verdict.GOOD, 0.3)
    assert "nothing could be compared" in printed(compared(skipped, good))
    assert "no difference" in printed(compared(skipped, good, good))


def test_markup_in_a_guest_s_words_is_only_text(tmp_path: Path) -> None:
    line = fact(FactKind.LOG, "pci <function>: [red]AER[/red] [/]")
    text = printed(
        compared(
            left(tmp_path / "a", Verdict.GOOD, line),
            left(tmp_path / "b", Verdict.GOOD, line.model_copy(update={"subject": "pci other"})),
        )
    )
    assert line.subject in text


def test_the_json_has_the_cells_of_run_and_the_differences() -> None:
    comparison = compared(outcome(Verdict.BAD, 30.0), outcome(Verdict.GOOD, 0.3))
    document = json.loads(comparison_to_json(comparison))
    assert document["schema"] == 1
    assert [Outcome.model_validate(cell).verdict for cell in document["cells"]] == ["bad", "good"]
    assert document["differences"] == [
        {
            "scenario": "disk-unplug",
            "kind": "verdict",
            "subject": "disk-unplug",
            "aspect": "",
            "values": {"m0": "bad (ignored)", "m1": "good (deleted)"},
            "evidence": {"m0": "qmp.jsonl:9", "m1": "qmp.jsonl:9"},
        }
    ]
    assert Comparison.model_validate(document) == comparison


def test_the_published_schema_is_of_a_comparison() -> None:
    published = json.loads(schema("compare"))
    assert set(published["required"]) == {"schema", "columns", "groups", "cells", "differences"}

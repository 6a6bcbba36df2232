"""Rules about versions: which a documented behaviour counts for, in the model, in a case's file and for a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from testbed.campaign.case import read_case
from testbed.campaign.prepared import check_versions
from testbed.model.errors import InputError, LackingError
from testbed.model.outcome import Cell
from testbed.model.version_rule import VersionRule, outside, version_number

if TYPE_CHECKING:
    from pathlib import Path

CASE = """\
title: t
description: d
cells:
- machine: q35
  scenario: disk-unplug
  since: {qemu: "6.1", kernel: "5.10", reason: 17858a169508}
  until: {qemu: "8.1", reason: it warns}
  expect: good
  outcome: deleted
"""


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("8.2.10 (Debian 1:8.2.10)", (8, 2)),
        ("6.12.95+deb12-amd64", (6, 12)),
        ("6.1.0-57-amd64", (6, 1)),
        ("", ()),
    ],
)
def test_a_version_begins_with_its_number(text: str, number: tuple[int, ...]) -> None:
    assert version_number(text) == number


def test_since_counts_from_its_version_and_until_up_to_the_one_before() -> None:
    since, until = VersionRule(qemu="6.1", reason="came"), VersionRule(qemu="10.0", reason="mended")
    inside = [
        version
        for version in ("5.2", "6.0.9", "6.1", "7.2.22", "9.2", "10.0.2", "11.1.3")
        if not outside(since, until, "qemu", version)
    ]
    assert inside == ["6.1", "7.2.22", "9.2"]
    assert outside(since, until, "qemu", "5.2.0") == "documented since 6.1: came"
    assert outside(since, until, "qemu", "10.0.2") == "documented until 10.0: mended"
    assert outside(since, until, "kernel", "2.6.32") == "", "nothing is said of kernels"


def test_a_cell_of_another_version_lacks_what_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(CASE)
    (cell,) = read_case(path, "c").cells
    check_versions(cell, kernel="6.1.0-57-amd64", qemu="7.2.22 (Debian)")
    check_versions(Cell(scenario="disk-unplug", machine="q35"), kernel="2.6.32", qemu="0.12")
    for kernel, qemu, words, remedy in (
        ("6.1.0", "8.1.0", "QEMU 8.1.0: this is documented until 8.1: it warns", "--qemu"),
        ("6.1.0", "5.2.0", "QEMU 5.2.0: this is documented since 6.1: 17858a169508", "--qemu"),
        ("4.19.0-27-amd64", "7.2.0", "Linux 4.19.0-27-amd64: this is documented since 5.10", "--image"),
    ):
        with pytest.raises(LackingError, match=words) as caught:
            check_versions(cell, kernel=kernel, qemu=qemu)
        assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    "rule", ["{reason: r}", '{qemu: "6.1"}', '{qemu: "6", reason: r}', '{linux: "6.1", reason: r}']
)
def test_a_rule_without_a_version_or_a_reason_is_refused(tmp_path: Path, rule: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(CASE.replace('{qemu: "8.1", reason: it warns}', rule))
    with pytest.raises(InputError, match=r"c\.yaml:7"):
        read_case(path, "c")


def test_a_rule_names_something() -> None:
    with pytest.raises(ValidationError, match="names neither"):
        VersionRule(reason="r")

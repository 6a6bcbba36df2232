"""The columns of a comparison, and the machine types behind a pattern."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.campaign.compare.columns import (
    Axes,
    ComparedMachine,
    column_cell,
    is_machine_type,
    make_columns,
    matching_types,
)
from testbed.model.errors import InputError

OFFERED = ("q35", "pc-q35-2.10", "pc-q35-2.4", "pc-q35-4.0.1", "pc-q35-4.0", "pc-i440fx-7.2", "pc", "microvm", "none")
Q35 = ComparedMachine(label="q35", template="q35", parameters={})
NATIVE = ComparedMachine(label="q35[hotplug=native]", template="q35", parameters={"hotplug": "native"})


def axes(**given: Any) -> Axes:
    return Axes(**{"machines": [Q35], "cmdlines": [""], "images": ["debian"], "qemus": [""], **given})


def labels(**given: Any) -> list[str]:
    return [column.label for column in make_columns(axes(**given))]


def test_a_pattern_means_the_versioned_types_by_version() -> None:
    assert [kind for kind, _ in matching_types("pc-q35-*", OFFERED)] == [
        "pc-q35-2.4",
        "pc-q35-2.10",
        "pc-q35-4.0",
        "pc-q35-4.0.1",
    ]
    assert matching_types("*", OFFERED)[0] == ("pc-i440fx-7.2", "i440fx")


def test_an_unknown_pattern_lists_what_is_there() -> None:
    with pytest.raises(InputError) as error:
        matching_types("pc-q36-*", OFFERED)
    assert "pc-q36-*" in error.value.message
    assert error.value.hint == ("there are: pc-i440fx-7.2, pc-q35-2.4, pc-q35-2.10, pc-q35-4.0, pc-q35-4.0.1")


@pytest.mark.parametrize(
    ("name", "is_type"), [("pc-q35-*", True), ("pc-q35-6.0", True), ("q35", False), ("./my.yaml.j2", False)]
)
def test_a_machine_type_is_told_from_a_template(name: str, is_type: bool) -> None:
    assert is_machine_type(name) is is_type


def test_labels_name_only_what_varies() -> None:
    assert labels(machines=[Q35, NATIVE]) == ["q35", "q35[hotplug=native]"]
    assert labels(cmdlines=["", "pcie_aspm=off"]) == ["(no command line)", "pcie_aspm=off"]
    assert labels(qemus=["", "/opt/qemu"]) == ["default QEMU", "/opt/qemu"]
    assert labels(machines=[Q35, NATIVE], images=["debian", "host"])[1] == "q35, host"


def test_a_machine_compared_with_itself_has_two_names() -> None:
    assert labels(machines=[Q35, Q35, Q35]) == ["q35", "q35 (2)", "q35 (3)"]


def test_one_column_is_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="nothing to compare q35 with"):
        make_columns(axes())


def test_a_column_s_cell_is_what_was_asked_for() -> None:
    column = make_columns(axes(machines=[Q35, NATIVE], cmdlines=["quiet"]))[1]
    cell = column_cell(column, "disk-unplug", time="real")
    assert cell.id == "disk-unplug q35[hotplug=native] quiet"
    assert (cell.image, cell.time) == ("debian", "real")

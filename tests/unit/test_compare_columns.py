"""The columns of a comparison, and the machine types behind a pattern."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.campaign.compare.columns import Choices, make_columns
from testbed.campaign.setups import NamedSetup
from testbed.model.errors import InputError
from testbed.model.outcome import Cell
from testbed.model.setup import Setup

Q35 = NamedSetup(label="q35", setup=Setup(machine="q35"))
NATIVE = NamedSetup(label="q35[hotplug=native]", setup=Setup(machine="q35", parameters={"hotplug": "native"}))


def axes(**given: Any) -> Choices:
    return Choices(**{"machines": [Q35], "cmdlines": [""], "images": [""], "qemus": [""], **given})


def labels(**given: Any) -> list[str]:
    return [column.label for column in make_columns(axes(**given))]


def test_labels_name_only_what_varies() -> None:
    assert labels(machines=[Q35, NATIVE]) == ["q35", "q35[hotplug=native]"]
    assert labels(cmdlines=["", "pcie_aspm=off"]) == ["(no command line)", "pcie_aspm=off"]
    assert labels(qemus=["", "/opt/qemu"]) == ["default QEMU", "/opt/qemu"]
    assert labels(machines=[Q35, NATIVE], images=["", "host"])[1] == "q35, host"


def test_a_machine_compared_with_itself_has_two_names() -> None:
    assert labels(machines=[Q35, Q35, Q35]) == ["q35", "q35 (2)", "q35 (3)"]


def test_one_column_is_nothing_to_compare() -> None:
    with pytest.raises(InputError, match="nothing to compare q35 with"):
        make_columns(axes())


def test_a_column_s_cell_is_what_was_asked_for() -> None:
    column = make_columns(axes(machines=[Q35, NATIVE], cmdlines=["quiet"]))[1]
    cell = Cell.of(column, "disk-unplug", time="real")
    assert cell.id == "disk-unplug q35[hotplug=native] quiet"
    assert (cell.image, cell.time) == ("debian", "real")


def test_what_a_machine_says_itself_is_not_said_otherwise_by_an_axis() -> None:
    machine = NamedSetup(label="q35 quiet", setup=Setup(machine="q35", cmdline="quiet"))
    assert [column.cmdline for column in make_columns(axes(machines=[machine, Q35]))] == ["quiet", ""]
    with pytest.raises(InputError, match="'q35 quiet' says 'quiet'"):
        make_columns(axes(machines=[machine], cmdlines=["", "debug"]))

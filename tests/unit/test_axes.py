"""FieldAxes: the fields that cells differ in, none twice under two names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.report.axes import find_axes, plain_value

from .outcomes import outcome

if TYPE_CHECKING:
    from testbed.model.outcome import Outcome


def cell(*, rundir: str = "/runs/1/case/01", **changed: Any) -> Outcome:
    return outcome().model_copy(update={"rundir": rundir, **changed})


def names(*cells: Outcome) -> list[str]:
    return [axis.name for axis in find_axes(cells).differing]


def test_only_what_differs_is_an_axis_and_the_rest_is_said_once() -> None:
    axes = find_axes([cell(cmdline="quiet"), cell(cmdline=""), cell(cmdline="quiet")])
    (axis,) = axes.differing
    assert (axis.name, axis.values, axis.places) == ("cmdline", ("quiet", "(none)"), (0, 1, 0))
    assert dict(axes.common)["scenario"] == "disk-unplug"
    assert "cmdline" not in dict(axes.common)


def test_each_parameter_is_an_axis_of_its_own() -> None:
    cells = [
        cell(parameters={"hotplug": "native", "ports": 4}),
        cell(parameters={"hotplug": "acpi", "ports": 4}),
        cell(parameters={"hotplug": "acpi", "ports": 2}),
    ]
    assert names(*cells) == ["parameters.hotplug", "parameters.ports"]


def test_a_parameter_that_one_machine_lacks_is_empty_there() -> None:
    cells = [cell(machine="q35", parameters={"x": "1"}), cell(machine="pc"), cell(machine="q35", parameters={"x": "2"})]
    values = {axis.name: axis.values for axis in find_axes(cells).differing}
    assert values["parameters.x"] == ("1", "(none)", "2")


def test_of_fields_that_part_the_cells_alike_the_one_people_know_is_taken() -> None:
    assert names(cell(machine="q35", machine_type="pc-q35-7.2"), cell(machine="i440fx", machine_type="pc")) == [
        "machine"
    ]


def test_a_verdict_is_no_axis() -> None:
    assert names(cell(), cell(verdict="bad", reason="other", wall_seconds=9.0, id="other")) == []


def test_runs_and_cases_are_told_apart_by_their_folders() -> None:
    cells = [cell(rundir=f"/runs/{run}/{case}/01") for run in "12" for case in ("a", "b")]
    assert names(*cells) == ["case", "run"]


def test_every_cell_has_its_place_on_every_axis() -> None:
    cells = [cell(cmdline=str(n % 3), image=str(n % 2), rundir=str(Path("/r") / str(n))) for n in range(12)]
    for axis in find_axes(cells).differing:
        assert len(axis.places) == 12
        assert set(axis.places) == set(range(len(axis.values)))


def test_values_are_written_as_people_write_them() -> None:
    assert plain_value({"a": True, "b": [1, 2]}) == "a=on b=1 2"
    assert plain_value(None) == ""

"""A setup in one line, written and read back exactly; and the error for a line that says none."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.campaign.setups import read_cell, read_one_setup, read_setups
from testbed.machine.template import load_template
from testbed.model.catalog import TEMPLATES
from testbed.model.errors import InputError
from testbed.model.outcome import Cell
from testbed.model.parameter import Parameter, size_in_bytes
from testbed.model.setup import Setup, read_setup, setup_text
from testbed.model.value_text import ValueReader, value_text
from testbed.scenarios.scenario import all_scenarios

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "on",
        "OFF",
        "true",
        "16",
        "-0",
        "007",
        "max,+svm",
        "a=b",
        "a+b",
        '"',
        "{",
        "]",
        "Skylake-Client,-hle",
        "pc-q35-6.0",
    ]
)
scalars = texts | st.booleans() | st.integers()
values: st.SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)
of_type: dict[str, st.SearchStrategy[Any]] = {
    "str": texts,
    "int": st.integers(),
    "size": st.integers(0, 1 << 40),
    "bool": st.booleans(),
    "list": st.lists(values, max_size=4),
    "dict": st.dictionaries(texts, values, max_size=4),
}


@cache
def declared(name: str) -> dict[str, Parameter]:
    return dict(load_template(name).parameters)


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    machine = draw(st.sampled_from(TEMPLATES.names()))
    parameters = declared(machine)
    chosen = draw(st.sets(st.sampled_from(sorted(parameters))))
    return Setup(
        machine=machine,
        parameters={name: draw(of_type[parameters[name].type]) for name in sorted(chosen)},
        cmdline=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
        image=draw(st.sampled_from(["debian", "path:/src/linux,/lib/modules", "apt:linux-image-amd64@trixie", ""])),
        qemu=draw(st.sampled_from(["", "any", "/opt/my qemu/bin", "7.2", "on"])),
        accel=draw(st.sampled_from(["auto", "kvm", "tcg"])),
        first=draw(texts),
    )


@given(setup=setups())
def test_a_line_is_read_back_as_the_setup_it_was_written_from(setup: Setup) -> None:
    assert read_setup(setup_text(setup), declared) == setup
    assert type(setup.parameters.get("memory", 0)) is int


@given(kind=st.sampled_from(sorted(of_type)), data=st.data())
def test_a_value_is_read_back_as_it_was_written(kind: str, data: st.DataObject) -> None:
    parameter = Parameter(type=kind, default=None, doc="")
    value = data.draw(of_type[kind])
    again = parameter.parse(value_text(value))
    assert (again, type(again)) == (value, type(value))


@given(text=st.text(max_size=60) | st.text('q35[]{}=,+" onb', max_size=60))
def test_no_text_is_read_as_something_else_or_brings_the_reader_down(text: str) -> None:
    try:
        setup = read_setup(f"q35{text}", declared)
    except InputError:
        return
    assert read_setup(setup_text(setup), declared) == setup


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("q35[devices=virtio-blk+e1000]", {"devices": ["virtio-blk", "e1000"]}),
        ("q35[devices=virtio-blk,e1000,ports=5]", {"devices": ["virtio-blk", "e1000"], "ports": 5}),
        ("q35[devices=]", {"devices": []}),
        ('q35[cpu="max,+svm"]', {"cpu": "max,+svm"}),
        ("q35[port_properties={hotplug=off,x-speed=5}]", {"port_properties": {"hotplug": False, "x-speed": 5}}),
        ("q35[port_properties=hotplug=off,ports=2]", {"port_properties": {"hotplug": False}, "ports": 2}),
        ("q35[memory=2G]", {"memory": 2048}),
        ("q35[memory=512M, cpus=0x2]", {"memory": 512, "cpus": 2}),
    ],
)  # fmt: skip
def test_what_people_write(text: str, parameters: dict[str, Any]) -> None:
    assert read_one_setup(text).parameters == parameters


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("q35[ports=2", 12, "expected ',' or ']'"),
        ("q35[hotplu=native]", 5, "did you mean hotplug?"),
        ("q35[cpu=max,+svm]", 13, "expected NAME=VALUE"),
        ("q35[ports=two]", 11, "wanted int"),
        ("q35[ports=2,ports=3]", 13, "given twice"),
        ('q35[cpu="max]', 9, "quoted"),
        ("q35[port_properties={hotplug}]", 29, "'='"),
        ("q35]", 4, "expected '['"),
        ("q35{colour=red}", 5, "'colour' does not exist"),
        ("q35[devices=virtio-blk,]", 24, "expected"),
    ],
)
def test_what_says_no_setup_is_told_with_the_place(text: str, place: int, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_one_setup(text)
    assert f"at character {place}" in caught.value.message
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_an_accelerator_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match="accel"):
        read_one_setup("q35{accel=hvf}")


def test_a_cell_s_id_can_be_pasted_back() -> None:
    for scenario in all_scenarios().values():
        options = {name: option.default for name, option in scenario.options.items()}
        setup = Setup(machine="q35", parameters={"devices": ["virtio-blk", "e1000"], "hotplug": "native"}, qemu="any")
        cell = Cell.of(setup, scenario.name, options=options)
        assert read_cell(cell.id) == cell
    with_line = Cell(scenario="disk-unplug", machine="i440fx", cmdline=" quiet  pcie_aspm=off")
    assert read_cell(with_line.id) == with_line


def test_a_cell_s_id_where_a_machine_belongs_is_told_what_it_is() -> None:
    with pytest.raises(InputError, match="disk-unplug is a scenario") as caught:
        read_one_setup("disk-unplug q35 quiet")
    assert caught.value.hint == "that is a cell: testbed run 'disk-unplug q35 quiet'"


def test_what_is_given_beside_a_line_may_not_say_otherwise() -> None:
    assert read_one_setup("q35 quiet", ["ports=5"], cmdline="quiet") == Setup(
        machine="q35", parameters={"ports": 5}, cmdline="quiet"
    )
    assert read_one_setup("q35[ports=2]", ["ports=5"]).parameters == {"ports": 2}
    with pytest.raises(InputError, match="'q35 quiet' says 'quiet'"):
        read_one_setup("q35 quiet", cmdline="debug")


def test_a_versioned_machine_type_stands_for_its_template(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = ("q35", "pc-q35-2.10", "pc-q35-2.4", "pc-q35-4.0.1", "pc-q35-4.0", "pc-i440fx-7.2", "pc", "microvm")
    monkeypatch.setattr("testbed.campaign.setups.find_qemu", lambda _: type("Q", (), {"machine_types": offered}))
    assert read_one_setup("pc-q35-4.0[ports=2] quiet").parameters == {"type": "pc-q35-4.0", "ports": 2}
    labels = [each.label for each in read_setups("pc-q35-*[ports=2]")]
    assert labels == [f"pc-q35-{version}[ports=2]" for version in ("2.4", "2.10", "4.0", "4.0.1")]
    assert read_setups("pc-?440fx-*")[0].setup.machine == "i440fx"
    with pytest.raises(InputError) as caught:
        read_setups("pc-q36-*")
    assert caught.value.hint == "there are: pc-i440fx-7.2, pc-q35-2.4, pc-q35-2.10, pc-q35-4.0, pc-q35-4.0.1"
    with pytest.raises(InputError, match="4 machine types match"):
        read_one_setup("pc-q35-*")


@pytest.mark.parametrize(
    ("text", "unit", "size"), [("512M", "", 1 << 29), ("16G", "", 1 << 34), ("4096", "", 4096), ("2", "M", 1 << 21)]
)
def test_a_size_has_qemus_suffixes(text: str, unit: str, size: int) -> None:
    assert size_in_bytes(text, unit=unit) == size


@pytest.mark.parametrize("text", ["", "M", "1.5G", "-1", "5X", "1 G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        size_in_bytes(text)


def test_values_nested_without_end_are_refused() -> None:
    with pytest.raises(InputError, match="nested too deeply"):
        ValueReader("[" * 5000, what="value").items()

"""What a bisect searches among: every subset is a cell, the ends are what was given, and names lead back to cells."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.campaign.bisect.elements import run_command, run_options
from testbed.campaign.bisect.over_given import REMEDIES, devices_of, options_of, parameters_of, remedies_for
from testbed.campaign.setups import read_one_setup
from testbed.machine.cpu_model import CpuModel
from testbed.model.cmdline import CommandLine
from testbed.model.errors import InputError
from tests.unit.bisect_bed import cell

LINE = "quiet pcie_aspm=off pci=nomsi,noaer rdinit=/bin/sh -- single"

words = st.from_regex(r"[a-z][a-z_.]{0,8}(=[a-z0-9]{0,6})?", fullmatch=True)
lines = st.lists(words, min_size=1, max_size=12).map(" ".join)


def test_a_line_is_taken_apart_and_what_takes_the_channel_set_aside() -> None:
    elements = options_of(cell(LINE))
    assert elements.names == ("quiet", "pcie_aspm=off", "pci=nomsi", "pci=noaer")
    assert [(each.name, each.reason) for each in elements.aside] == [
        ("rdinit=/bin/sh", "it takes over the test bed's channel")
    ]
    assert elements.cell(elements.everything).cmdline == "quiet pcie_aspm=off pci=nomsi,noaer -- single"
    assert elements.cell(frozenset({0, 3})).cmdline == "quiet pci=noaer -- single"
    assert elements.cell(frozenset()).cmdline == "-- single"


@settings(deadline=None)
@given(line=lines, data=st.data())
def test_every_subset_of_a_line_has_just_its_options(line: str, data: st.DataObject) -> None:
    elements = options_of(cell(line))
    assert elements.cell(elements.everything).cmdline == line
    assert elements.cell(frozenset()).cmdline == ""
    subset = data.draw(st.frozensets(st.sampled_from(sorted(elements.everything))))
    assert tuple(CommandLine(elements.cell(subset).cmdline).options) == elements.named(subset)


@pytest.mark.parametrize(
    ("line", "told"), [("", "it is empty"), ("   ", "it is empty"), ("rdinit=/x", "all of it is set aside: rdinit=/x")]
)
def test_a_line_without_options_is_told(line: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        options_of(cell(line))
    assert "--cmdline" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "pcie_ports=native"),
        ("quiet", "quiet pcie_ports=native"),
        ("quiet  ro ", "quiet  ro pcie_ports=native"),
        ("quiet -- single", "quiet pcie_ports=native -- single"),
        ("-- single", "pcie_ports=native -- single"),
        ("quiet rdinit=/x", "quiet pcie_ports=native"),
    ],
)
def test_a_remedy_is_added_where_the_kernel_reads_it(line: str, expected: str) -> None:
    elements = remedies_for(cell(line), REMEDIES)
    assert elements.cell(frozenset({REMEDIES.index("pcie_ports=native")})).cmdline == expected


def test_without_a_remedy_the_line_is_as_it_was() -> None:
    assert remedies_for(cell("quiet  ro "), REMEDIES).cell(frozenset()).cmdline == "quiet  ro "


def test_a_remedy_that_is_there_already_is_no_candidate() -> None:
    elements = remedies_for(cell("pci=nocrs quiet"), ["pci=nocrs", "pci=realloc", "pci=realloc"])
    assert elements.names == ("pci=realloc",)
    with pytest.raises(InputError, match="every candidate"):
        remedies_for(cell("pci=nocrs"), ["pci=nocrs"])


def test_parameters_are_those_given_beyond_the_defaults() -> None:
    given = {"hotplug": "native", "memory": 512, "ports": 6, "port_properties": {"power_controller_present": False}}
    elements = parameters_of(cell(parameters=given))
    assert elements.names == ("hotplug=native", "ports=6", "port_properties={power_controller_present=off}")
    assert elements.cell(frozenset()).parameters == {}
    assert elements.cell(frozenset({1})).parameters == {"ports": 6}
    with pytest.raises(InputError, match="default values"):
        parameters_of(cell(parameters={"memory": 512}))


def test_the_templates_own_device_stays() -> None:
    elements = devices_of(cell(parameters={"devices": ["e1000", "virtio-blk", "e1000", "virtio-blk"], "ports": 5}))
    assert elements.names == ("e1000#1", "e1000#2", "virtio-blk")
    assert elements.cell(frozenset()).parameters == {"devices": ["virtio-blk"], "ports": 5}
    assert elements.cell(frozenset({0, 2})).parameters["devices"] == ["e1000", "virtio-blk", "virtio-blk"]
    with pytest.raises(InputError, match="none is given beyond its own"):
        devices_of(cell(parameters={"devices": ["virtio-blk"]}))


@pytest.mark.parametrize(
    ("subset", "words_"),
    [
        ((), "none of them"),
        ((0,), "only a"),
        ((0, 1, 2), "only a b c"),
        (range(8), "all 8 options"),
        ((0, 2, 3, 4, 5, 6, 7), "all but b"),
        ((0, 1, 2, 3), "4 of 8 options: a … d"),
    ],
)
def test_a_subset_is_described_by_what_is_fewest(subset: tuple[int, ...], words_: str) -> None:
    assert options_of(cell("a b c d e f g h")).describe(frozenset(subset)) == words_


parameters = st.fixed_dictionaries(
    {},
    optional={
        "hotplug": st.sampled_from(["native", "acpi"]),
        "memory": st.integers(min_value=128, max_value=65536),
        "devices": st.lists(st.sampled_from(["virtio-blk", "e1000"]), max_size=3),
        "port_properties": st.dictionaries(st.sampled_from(["hotplug", "x-speed"]), st.booleans() | st.integers(0, 9)),
        "globals": st.dictionaries(st.sampled_from(["i8042.extended-state", "a.b"]), st.booleans() | st.just("5_0")),
    },
)


@settings(deadline=None)
@given(parameters=parameters, line=lines)
def test_a_run_command_means_its_cell(parameters: dict[str, Any], line: str) -> None:
    wanted = cell(line, parameters=parameters, image="host")
    said = shlex.split(run_command(wanted))
    assert said[:3] == ["testbed", "run", "disk-unplug"]
    assert said[said.index("--image") + 1] == "host"
    options = shlex.split(run_options(wanted))
    values = dict(zip(options[::2], options[1::2], strict=True))
    params = [value for name, value in zip(options[::2], options[1::2], strict=True) if name == "-p"]
    cmdline, image = values.get("--cmdline", ""), values["--image"]
    assert read_one_setup(values["--machine"], params, cmdline=cmdline, image=image) == wanted.setup


@pytest.mark.parametrize(("whole", "words"), [("running", "--whole"), ("20", "--whole-wait 20")])
def test_a_run_command_says_that_the_disk_s_user_space_runs(whole: str, words: str) -> None:
    assert run_command(cell("quiet", image="disk:/a.raw", whole=whole)).endswith(f" --image disk:/a.raw {words}")


@pytest.mark.parametrize(
    ("text", "name", "flags"),
    [
        ("max", "max", ()),
        ("max,smap=off", "max", (("smap", False),)),
        ("EPYC,+x2apic,-svm,tsc=on", "EPYC", (("x2apic", True), ("svm", False), ("tsc", True))),
        ("max,vendor=AuthenticAMD", "max", (("vendor", "AuthenticAMD"),)),
    ],
)
def test_a_cpu_value_is_taken_apart(text: str, name: str, flags: tuple[tuple[str, bool | str], ...]) -> None:
    assert CpuModel.parse(text) == CpuModel(name=name, flags=flags)

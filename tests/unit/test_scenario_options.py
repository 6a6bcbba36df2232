"""Options of scenarios: declared with the scenario, checked, carried in the cell and told in its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from testbed.campaign.case import read_case
from testbed.guest.recovery import Waits
from testbed.model.errors import InputError
from testbed.model.outcome import Cell
from testbed.model.parameter import Parameter
from testbed.scenarios.aer_judgement import chosen_waits
from testbed.scenarios.scenario import all_scenarios, find_scenario, scenario
from testbed.scenarios.trial import Trial

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.guest.guest import Guest
    from testbed.model.outcome import Judgement

CASE = """\
title: t
description: d
cells:
- {machine: q35, scenario: replug-cycles, options: {cycles: 3}, expect: good, outcome: kept}
"""


def test_every_option_has_its_default_where_none_is_given() -> None:
    scenario = find_scenario("replug-cycles")
    assert scenario.values({}) == {"cycles": 10, "device": "virtio-blk", "seconds": 30}
    assert scenario.values({"cycles": 50})["cycles"] == 50


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cycle": 5}, "option of scenario replug-cycles: 'cycle' does not exist"),
        ({"cycles": 0}, "option cycles: got 0, wanted at least 1"),
        ({"cycles": "5"}, "option cycles: got str '5', wanted int"),
        ({"device": "floppy"}, "option device: got 'floppy', wanted one of virtio-blk"),
    ],
)
def test_an_unknown_or_wrong_option_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        find_scenario("replug-cycles").values(given)
    assert said in caught.value.message
    assert caught.value.hint


def test_text_becomes_the_options_type() -> None:
    scenario = find_scenario("replug-cycles")
    assert scenario.parse("cycles", "50") == 50
    with pytest.raises(InputError, match="option cycles: got 'many', wanted int"):
        scenario.parse("cycles", "many")


def test_a_device_cannot_follow_a_model_of_the_cpu() -> None:
    scenario = find_scenario("mmio-device-answers")
    assert scenario.values({"stall": "for:2.5:read"})["stall"] == "for:2.5:read"
    with pytest.raises(InputError, match="a device cannot tell who makes an access"):
        scenario.values({"stall": "smap-erratum"})
    with pytest.raises(InputError, match="there is no model 'nevr'"):
        scenario.values({"stall": "nevr"})


@pytest.mark.parametrize("name", all_scenarios())
def test_the_defaults_of_a_scenario_are_values_of_its_options(name: str) -> None:
    scenario = all_scenarios()[name]
    assert find_scenario(name) is scenario, "it is found without the others"
    assert scenario.values(scenario.values({})) == scenario.values({})
    assert all(isinstance(option, Parameter) and option.doc for option in scenario.options.values())


def test_a_cell_is_named_with_what_was_chosen() -> None:
    cell = Cell(scenario="replug-cycles", options={"device": "nvme", "cycles": 50}, machine="i440fx")
    assert cell.id == "replug-cycles[cycles=50,device=nvme] i440fx"
    assert Cell(scenario="disk-unplug", machine="q35").id == "disk-unplug q35"


def test_a_case_gives_options(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(CASE)
    assert read_case(path, "c").cells[0].options == {"cycles": 3}


def test_patience_is_an_option_of_what_waits() -> None:
    trial = Trial(guest=cast("Guest", None), options=find_scenario("disk-unplug").values({"seconds": 90}))
    assert trial.deadline == 90.0
    assert "seconds" not in find_scenario("sriov-enable").options


@pytest.mark.parametrize("name", ["aer-recover", "aer-at-once", "aer-without-control", "deep-switch-aer"])
def test_what_injects_an_error_has_patience_with_the_report_and_the_recovery(name: str) -> None:
    scenario = find_scenario(name)
    options = scenario.values({"report_seconds": 7, "recovery_seconds": 90})
    assert chosen_waits(Trial(guest=cast("Guest", None), options=options)) == Waits(report=7, recovery=90)
    assert chosen_waits(Trial(guest=cast("Guest", None), options=scenario.values({}))) == Waits()


def test_how_long_it_lasts_is_a_function_of_its_options() -> None:
    async def mine(trial: Trial) -> Judgement:
        """Is it so?"""
        raise NotImplementedError(trial)

    assert scenario(lasts=lambda _: 3.0)(mine).lasts is not None
    with pytest.raises(InputError, match="lasts: got 3000, wanted a function"):
        scenario(lasts=cast("Any", 3000))(mine)

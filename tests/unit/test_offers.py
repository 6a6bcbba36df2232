"""What there is to run is remembered, and never longer than it is true."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from testbed.campaign import offers
from testbed.campaign.case import load_case
from testbed.campaign.offers import case_offers, machine_offers, scenario_offers
from testbed.machine.template import load_template
from testbed.model.catalog import CASES, TEMPLATES
from testbed.scenarios.scenario import all_scenarios

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESTBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def forget() -> None:
    """Do as another process would."""
    offers._state.cache_clear()


def test_what_is_remembered_is_what_there_is() -> None:
    for _ in range(2):
        cases = {each.name: each.text for each in case_offers()}
        assert cases == {name: load_case(name).title for name in CASES.names()}
        scenarios = [(each.name, each.text, list(each.choices)) for each in scenario_offers()]
        assert scenarios == [(name, each.question, list(each.options)) for name, each in all_scenarios().items()]
        machines = {each.name: (each.text, list(each.choices)) for each in machine_offers()}
        templates = {name: load_template(name) for name in TEMPLATES.names()}
        assert machines == {name: (each.description, list(each.parameters)) for name, each in templates.items()}


def test_it_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = case_offers()

    def fail(_: Path) -> list[offers.Offer]:
        raise AssertionError("a case was read again")

    monkeypatch.setattr(offers, "_case", fail)
    forget()
    assert case_offers() == before


def test_an_edited_file_is_seen_and_so_is_one_that_comes_and_one_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "testbed/cases"
    shutil.copytree(CASES.shipped, shipped)
    monkeypatch.setattr(offers, "CASES", replace(CASES, shipped=shipped))

    def titles() -> dict[str, str]:
        forget()
        return {each.name: each.text for each in case_offers()}

    path, title = shipped / "ghost-disk.yaml", titles()["ghost-disk"]
    text = path.read_text()
    assert text.count(title) == 1
    path.write_text(text.replace(title, title[::-1]))
    assert titles()["ghost-disk"] == title[::-1]
    path.rename(shipped / "another.yaml")
    assert titles()["another"] == title[::-1]
    assert "ghost-disk" not in titles()
    (shipped / "another.yaml").unlink()
    assert "another" not in titles()


def test_what_is_ones_own_goes_before_and_is_read_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    (own / "cases").mkdir(parents=True)
    monkeypatch.setenv("TESTBED_PATH", str(own))
    text = (CASES.shipped / "ghost-disk.yaml").read_text()
    for title in ("first words", "other words"):
        (own / "cases/ghost-disk.yaml").write_text(f"title: {title}\n" + text.partition("\n")[2])
        found = [each.text for each in case_offers() if each.name == "ghost-disk"]
        assert found == [title]

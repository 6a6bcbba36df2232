"""What a set changed in the guest, from what its two proving trials left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from testbed.campaign.bisect.explanation import explain_set
from testbed.campaign.bisect.oracle import Tried
from testbed.campaign.bisect.result import Answer, Goal
from testbed.model.fact import FACTS_FILE, Fact, FactKind, Facts
from tests.unit.bisect_bed import BAD, GOOD, Said, cell, outcome

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "<5>[    0.000000] Linux version 6.1.0-1-amd64 (Debian 6.1.1-1)\n"
BRIDGE = "<6>[    0.310000] ACPI: PCI Root Bridge [PCI0] (domain 0000 [bus 00-ff])\n"
SUPPORTS = "<6>[    0.311000] acpi PNP0A08:00: _OSC: OS supports [ExtendedConfig {}Segments MSI HPX-Type3]\n"
REFUSES = (
    "<6>[    0.312000] acpi PNP0A08:00: _OSC: not requesting OS control; "
    "OS requires [ExtendedConfig ASPM ClockPM MSI]\n"
)
CONTROLS = "<6>[    0.312000] acpi PNP0A08:00: _OSC: OS now controls [PCIeHotplug SHPCHotplug PME AER PCIeCapability]\n"
NATIVE_LOG = HEAD + BRIDGE + SUPPORTS.format("ASPM ClockPM ") + CONTROLS
REFUSED_LOG = HEAD + BRIDGE + SUPPORTS.format("") + REFUSES


def fact(kind: FactKind, subject: str, value: str, aspect: str = "") -> Fact:
    return Fact(kind=kind, subject=subject, aspect=aspect, value=value, evidence="shell.jsonl:3")


def tried(folder: Path, line: str, said: Said, log: str, facts: tuple[Fact, ...]) -> Tried:
    folder.mkdir()
    (folder / "kernel.log").write_text(log)
    (folder / FACTS_FILE).write_bytes(Facts.dump_json(facts))
    made = outcome(cell(line), said, folder)
    return Tried(cell=cell(line), answer=Answer.of(said[0]), outcome=made, reason=made.reason)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Tried, Tried]:
    """Return the trial with only pcie_aspm=off, and the one without it."""
    same = fact(FactKind.PCI, "dev1", "1af4:1042")
    ports = tuple(fact(FactKind.DRIVER, f"rp{number}", "pciehp", "service hot-plug") for number in (1, 2))
    served = (fact(FactKind.INTERRUPT, "pciehp", "4 lines, PCI-MSI edge"), *ports, same)
    hot_plug = [fact(FactKind.CONTROL, "hot-plug", who) for who in ("nobody", "Linux (pciehp)")]
    return (
        tried(tmp_path / "bad", "pcie_aspm=off", BAD, REFUSED_LOG, (hot_plug[0], same)),
        tried(tmp_path / "good", "", GOOD, NATIVE_LOG, (hot_plug[1], *served)),
    )


def test_changes_are_told_once_for_all_things_they_are_the_same_in(sides: tuple[Tried, Tried]) -> None:
    explained = explain_set(["pcie_aspm=off"], *sides, goal=Goal.CULPRIT)
    assert [(each.subject, each.with_set, each.without) for each in explained.changes] == [
        ("hot-plug", "nobody", "Linux (pciehp)"),
        ("interrupts: pciehp", "-", "4 lines, PCI-MSI edge"),
        ("rp1, rp2 service hot-plug", "-", "pciehp"),
        ("QMP event", "ignored", "deleted"),
    ]
    assert explained.changes[0].evidence == ("with: shell.jsonl:3", "without: shell.jsonl:3")
    assert explained.changes[-1].evidence == ("with: qmp.jsonl:7", "without: qmp.jsonl:7")


def test_the_rules_of_explain_say_what_a_culprit_does(sides: tuple[Tried, Tried]) -> None:
    (why,) = explain_set(["pcie_aspm=off"], *sides, goal=Goal.CULPRIT).why
    assert why.startswith("pcie_aspm=off: Linux no longer tells the firmware that it supports ASPM and ClockPM")
    assert explain_set(["nomodeset"], *sides, goal=Goal.CULPRIT).why == ()


def test_of_a_remedy_they_say_what_it_is_against(sides: tuple[Tried, Tried]) -> None:
    explained = explain_set(["pcie_ports=native"], *sides[::-1], goal=Goal.REMEDY)
    assert explained.why[0].startswith("pcie_aspm=off: ")
    assert explained.changes[0].with_set == "Linux (pciehp)"


def test_without_their_rundirs_the_findings_are_left(sides: tuple[Tried, Tried], tmp_path: Path) -> None:
    for folder in ("bad", "good"):
        (tmp_path / folder).rename(tmp_path / f"{folder}-moved")
    explained = explain_set(["pcie_aspm=off"], *sides, goal=Goal.CULPRIT)
    assert explained.why == ()
    assert [each.subject for each in explained.changes] == ["QMP event"]


def test_a_trial_that_could_not_start_explains_nothing(sides: tuple[Tried, Tried]) -> None:
    refused = Tried(cell=cell("a"), answer=Answer.UNRESOLVED, outcome=None, reason="refused")
    assert explain_set(["a"], refused, sides[1], goal=Goal.CULPRIT).changes == ()

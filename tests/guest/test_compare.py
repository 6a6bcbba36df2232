"""`testbed compare` as a user calls it: what differs between machines, and that nothing else does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from testbed.model.comparison import Comparison

ASPM_OFF = ("--cmdline", "pcie_aspm=off")


def _compare(folder: Path, *arguments: str) -> tuple[int, Comparison, str]:
    command = [sys.executable, "-m", "testbed", "compare", *arguments, "--accel", "tcg", "--json", "-"]
    wide = {**os.environ, "COLUMNS": "250"}
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=wide)
    assert result.stdout, result.stderr
    return result.returncode, Comparison.model_validate(json.loads(result.stdout)), result.stderr


def _values(comparison: Comparison, kind: str, subject: str, aspect: str = "") -> list[Any]:
    return [
        list(each.values.values())
        for each in comparison.differences
        if (each.kind, each.subject, each.aspect) == (kind, subject, aspect)
    ]


@pytest.mark.seconds(25)
def test_q35_and_i440fx_differ_in_who_serves_the_slot(tmp_path: Path) -> None:
    reports = ("--junit", str(tmp_path / "junit.xml"), "--html", str(tmp_path / "page.html"))
    code, found, text = _compare(
        tmp_path, "disk-unplug", "-m", "q35[hotplug=native]", "-m", "i440fx", *ASPM_OFF, *reports
    )
    assert code == 1
    suites = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suites.attrib["tests"], suites.attrib["failures"]) == ("2", "1")
    assert "<!doctype html>" in (tmp_path / "page.html").read_text().lower()
    assert [cell.verdict for cell in found.cells] == ["bad", "good"]
    assert _values(found, "verdict", "disk-unplug") == [["bad (ignored)", "good (deleted)"]]
    assert _values(found, "control", "hot-plug") == [["nobody", "ACPI (acpiphp)"]]
    ((q35, i440fx),) = _values(found, "control", "_OSC", "OS supports")
    assert "ExtendedConfig" in q35
    assert "ExtendedConfig" not in i440fx
    (parted,) = [each for each in found.differences if each.kind == "divergence"]
    assert (parted.subject, parted.aspect) == ("i440fx", "device_del dev1")
    assert "DEVICE_DELETED" in str(parted.values["i440fx"]) or "is gone" in str(parted.values["i440fx"])
    assert "is there" in str(parted.values["q35[hotplug=native]"])
    assert "q35[hotplug=native]: bad; i440fx: good" in text


@pytest.mark.seconds(25)
def test_native_and_acpi_hot_plug_differ_in_latency_and_by_the_property_that_decides(tmp_path: Path) -> None:
    code, found, _ = _compare(tmp_path, "disk-unplug", "-m", "q35[hotplug=native]", "-m", "q35[hotplug=acpi]")
    assert code == 1
    assert next(each.kind for each in found.differences) == "latency"
    assert _values(found, "interrupt", "pciehp") == [["4 lines, PCI-MSI edge", None]]
    assert _values(found, "qemu", "ICH9-LPC", "acpi-pci-hotplug-with-bridge-support") == [["false", "true"]]
    assert _values(found, "driver", "rp1", "service hot-plug") == [["pciehp", None]]
    cited = [each for each in found.differences if each.kind == "control"]
    for each in cited:
        for cell, column in zip(found.cells, found.columns, strict=True):
            file, _, line = each.evidence.get(column.label, "outcome.json:1").partition(":")
            assert len((Path(cell.rundir) / file).read_text().splitlines()) >= int(line)


@pytest.mark.seconds(30)
@pytest.mark.parametrize("machine", ["q35", pytest.param("i440fx", marks=pytest.mark.extended)])
def test_a_machine_does_not_differ_from_itself(tmp_path: Path, machine: str) -> None:
    code, found, text = _compare(tmp_path, "disk-unplug", "-m", machine, "-m", machine, "--fresh", "--all")
    assert [each.model_dump() for each in found.differences] == []
    assert code == 0
    assert all(cell.start == "fresh" for cell in found.cells)
    assert "no difference" in text


@pytest.mark.extended
@pytest.mark.seconds(30)
def test_a_pattern_finds_the_machine_type_in_which_it_changed(tmp_path: Path) -> None:
    code, found, text = _compare(tmp_path, "disk-unplug", "-m", "pc-q35-6.*", *ASPM_OFF)
    assert code == 1
    assert [(group.columns, group.verdict) for group in found.groups] == [
        (("pc-q35-6.0",), "bad"),
        (("pc-q35-6.1", "pc-q35-6.2"), "good"),
    ]
    assert "pc-q35-6.0: bad; 6.1, 6.2: good" in text
    assert {tuple(each.values) for each in found.differences} == {("pc-q35-6.0", "pc-q35-6.1")}
    assert _values(found, "qemu", "ICH9-LPC", "acpi-pci-hotplug-with-bridge-support") == [["false", "true"]]


@pytest.mark.extended
@pytest.mark.seconds(25)
def test_a_machine_type_older_than_pvh_starts_from_a_bzimage(tmp_path: Path) -> None:
    code, found, _ = _compare(tmp_path, "disk-unplug", "-m", "pc-i440fx-3.1", "-m", "pc-i440fx-4.0", *ASPM_OFF)
    assert [(cell.verdict, cell.boot) for cell in found.cells] == [("good", "bzimage"), ("good", "pvh")]
    assert code == 1


@pytest.mark.extended
@pytest.mark.seconds(25)
def test_two_command_lines_and_a_machine_without_a_disk(tmp_path: Path) -> None:
    lines = ("--cmdline", "", "--cmdline", "pcie_ports=compat")
    code, found, _ = _compare(tmp_path, "disk-unplug", "-m", "q35[hotplug=native]", "-m", "q35[devices=e1000]", *lines)
    assert code == 1
    assert [column.label for column in found.columns] == [
        "q35[hotplug=native], (no command line)",
        "q35[hotplug=native], pcie_ports=compat",
        "q35[devices=e1000], (no command line)",
        "q35[devices=e1000], pcie_ports=compat",
    ]
    assert [cell.verdict for cell in found.cells] == ["good", "bad", "skip", "skip"]
    assert "no cold-plugged disk" in found.cells[2].reason
    assert len(found.groups) == 3


@pytest.mark.extended
@pytest.mark.seconds(25)
def test_registers_that_read_otherwise_are_told(tmp_path: Path) -> None:
    """A modern virtio device has no ports; the card beside it is the same on both machines, wherever its BARs are."""
    machines = [f"q35[devices=e1000,virtio-net-{kind}]" for kind in ("transitional", "modern")]
    code, found, text = _compare(tmp_path, "mmio-survey", "-m", machines[0], "-m", machines[1])
    assert code == 1
    assert [cell.outcome for cell in found.cells] == ["surveyed", "surveyed"]
    assert _values(found, "register", "dev2 BAR 0 (I/O) + 0x0") == [["in 0x20 bytes", None]]
    registers = [each for each in found.differences if each.kind == "register"]
    assert not any(each.subject.startswith("dev1 ") for each in registers)
    assert "device registers" in text

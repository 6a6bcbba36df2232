"""`testbed bisect` with real guests: found, proven, in few boots; and going on where it was interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from pathlib import Path

NATIVE = ("disk-unplug", "-p", "hotplug=native")
#: what an installer, an administrator and a tuning guide leave on a line
ORDINARY = [
    "BOOT_IMAGE=/vmlinuz-6.1.0-28-amd64",
    "root=/dev/mapper/vg0-root",
    "ro",
    "quiet",
    "rd.lvm.lv=vg0/root",
    "crashkernel=64M",
    "console=tty0",
    "net.ifnames=0",
    "biosdevname=0",
    "transparent_hugepage=never",
    "audit=0",
    "nmi_watchdog=0",
    "mitigations=off",
    "nomodeset",
    "selinux=0",
]
BRIDGE_SUPPORT = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "testbed", "bisect", *arguments, "--accel", "tcg"]
    wide = {**os.environ, "COLUMNS": "250"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=wide)


def bisected(folder: Path, *arguments: str) -> dict[str, Any]:
    process = start(folder, *arguments, "--json", "-")
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    report = json.loads(stdout)
    assert isinstance(report, dict)
    assert (report["proven"], report["incomplete"], report["candidates"]) == (True, "", [])
    return report


def verdict(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "testbed", "run", *arguments, "--accel", "tcg", "--json", "-"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    (cell,) = json.loads(result.stdout)["cells"]
    return str(cell["verdict"])


@pytest.mark.extended
@pytest.mark.seconds(45)
def test_one_of_16_is_found_in_8_boots_and_proven(tmp_path: Path) -> None:
    line = [*ORDINARY[:6], "pcie_aspm=off", *ORDINARY[6:]]
    report = bisected(tmp_path, *NATIVE, "--cmdline", " ".join(line), "--one-at-a-time")
    assert len(report["elements"]) == 16
    assert report["culprits"] == ["pcie_aspm=off"]
    assert report["remedy"] == " ".join(ORDINARY)
    assert report["boots"] == len(report["trials"]) <= 8
    assert verdict(tmp_path, *NATIVE, "--cmdline", report["remedy"]) == "good"
    (found,) = report["sets"]
    changes = {change["subject"]: (change["with_set"], change["without"]) for change in found["changes"]}
    assert changes["hot-plug"] == ("nobody", "Linux (pciehp)")
    assert "ASPM ClockPM" in changes["_OSC OS supports"][1]
    assert "ASPM" not in changes["_OSC OS supports"][0]
    assert [why.partition(":")[0] for why in found["why"]] == ["pcie_aspm=off"]


@pytest.mark.extended
@pytest.mark.seconds(60)
def test_options_that_each_suffice_are_all_found(tmp_path: Path) -> None:
    line = "quiet pcie_aspm=off nomodeset pci=noaer,nomsi rdinit=/bin/sh audit=0"
    report = bisected(tmp_path, *NATIVE, "--cmdline", line)
    assert sorted(report["culprits"]) == ["pci=nomsi", "pcie_aspm=off"]
    assert [len(found["elements"]) for found in report["sets"]] == [1, 1]
    assert report["remedy"] == "quiet nomodeset pci=noaer audit=0"
    assert [each["element"] for each in report["aside"]] == ["rdinit=/bin/sh"]


@pytest.mark.extended
@pytest.mark.seconds(60)
def test_options_that_are_only_bad_together_are_one_set(tmp_path: Path) -> None:
    """Polling every 60 s, pciehp is too late for a deadline of 30 s; with either option alone it is not."""
    line = "quiet pciehp.pciehp_poll_mode=1 nomodeset pciehp.pciehp_poll_time=60 audit=0"
    report = bisected(tmp_path, *NATIVE, "--cmdline", line)
    assert [each["elements"] for each in report["sets"]] == [
        ["pciehp.pciehp_poll_mode=1", "pciehp.pciehp_poll_time=60"]
    ]


@pytest.mark.extended
@pytest.mark.seconds(50)
def test_the_property_that_matters_between_two_machine_types_is_found(tmp_path: Path) -> None:
    machines = ("--over", "machine", "-m", "pc-q35-6.1", "-m", "pc-q35-6.0")
    report = bisected(tmp_path, "disk-unplug", *machines, "--cmdline", "pcie_aspm=off")
    assert report["culprits"] == [BRIDGE_SUPPORT]
    assert f"globals={{{BRIDGE_SUPPORT}}}" in report["sets"][0]["command"]
    assert "type=pc-q35-6.0" in report["elements"]


@pytest.mark.extended
@pytest.mark.seconds(40)
def test_a_remedy_is_found_among_the_well_known_ones(tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    wanted = ("--cmdline", "quiet pcie_aspm=off", "--goal", "remedy", "--junit", str(junit))
    report = bisected(tmp_path, *NATIVE, *wanted)
    assert ElementTree.parse(junit).getroot().attrib["tests"] == str(len(report["trials"]))
    assert report["culprits"] == ["pcie_ports=native"]
    assert report["remedy"] == "quiet pcie_aspm=off pcie_ports=native"


@pytest.mark.extended
@pytest.mark.seconds(90)
@pytest.mark.parametrize(("over", "found"), [("cmdline", "clearcpuid=smap"), ("cpu", "smap=off")])
def test_what_lets_a_held_access_complete_is_found(over: str, found: str, tmp_path: Path) -> None:
    stalled = ("mmio-write-completes", "-s", "stall=smap-erratum", "-p", "devices=virtio-net-modern", "-p", "cpu=EPYC")
    report = bisected(tmp_path, *stalled, "--goal", "remedy", "--over", over, "--one-at-a-time")
    assert report["culprits"] == [found]


SCENARIO = '''
from testbed.api import Finding, Judgement, Trial, Verdict, scenario


@scenario()
async def no_aes(trial: Trial) -> Judgement:
    """Is the guest's CPU without AES instructions?"""
    trial.stimulus("/proc/cpuinfo")
    seen = await trial.guest.shell.run("grep -c -w aes /proc/cpuinfo")
    verdict = Verdict.GOOD if seen.text.strip() == "0" else Verdict.BAD
    finding = Finding(subject="CPUs with aes", expected="0", observed=seen.text, evidence=seen.evidence)
    return Judgement(verdict=verdict, outcome="counted", reason=f"{seen.text} with aes", findings=(finding,))
'''


@pytest.mark.extended
@pytest.mark.seconds(40)
@pytest.mark.parametrize(("goal", "found"), [("culprit", "aes"), ("remedy", "aes=off")])
def test_the_cpu_feature_that_matters_is_found(goal: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "no_aes.py").write_text(SCENARIO)
    report = bisected(tmp_path, "no_aes.py", "--over", "cpu", "-p", "cpu=Westmere", "--goal", goal)
    assert report["culprits"] == [found]


@pytest.mark.extended
@pytest.mark.seconds(50)
def test_a_line_that_needs_more_memory_gets_it(tmp_path: Path) -> None:
    line = "quiet hugepages=220 pcie_aspm=off"
    report = bisected(tmp_path, *NATIVE, "--cmdline", line)
    assert report["culprits"] == ["pcie_aspm=off"]
    assert "1024 MiB" in " ".join(report["notes"])
    assert report["remedy"] == "quiet hugepages=220"


@pytest.mark.seconds(60)
def test_an_interrupted_bisect_goes_on_in_its_rundir(tmp_path: Path) -> None:
    line = "quiet pcie_aspm=off audit=0"
    process = start(tmp_path, *NATIVE, "--cmdline", line, "--one-at-a-time", "--log", "first.log")
    assert process.stdout is not None
    for text in process.stdout:
        if text.startswith("  2 "):
            process.send_signal(signal.SIGINT)
            break
    _, stderr = process.communicate()
    assert (process.returncode, "interrupted" in stderr) == (130, True)
    commands = [each for each in (tmp_path / "first.log").read_text().splitlines() if each.startswith("testbed run")]
    assert len(commands) == 2
    (rundir,) = (tmp_path / "testbed-runs").iterdir()
    report = resumed(tmp_path, rundir)
    assert [trial["cached"] for trial in report["trials"][:2]] == [True, True]
    assert report["boots"] == len(report["trials"]) - 2
    again = resumed(tmp_path, rundir)
    assert (again["boots"], again["culprits"]) == (0, ["pcie_aspm=off"])


def resumed(folder: Path, rundir: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "testbed", "bisect", "--resume", str(rundir), "--json", "-"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@pytest.mark.extended
@pytest.mark.seconds(15)
def test_ends_that_agree_are_told(tmp_path: Path) -> None:
    process = start(tmp_path, *NATIVE, "--cmdline", "quiet audit=0")
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert "good with all 2 options, good with none of them" in stderr
    assert "the symptom does not occur" in stderr

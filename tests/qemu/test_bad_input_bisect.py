"""Wrong input to `testbed bisect`: exit code 2, one clear message, nothing started and nothing left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .wrong_input import assert_told_once, refuse

if TYPE_CHECKING:
    from pathlib import Path

#: what is given after `testbed bisect`, then what the message says
TABLE: list[tuple[str, list[str], str]] = [
    ("scenario", ["disk-unplgu", "--cmdline", "a"], "scenario 'disk-unplgu' does not exist"),
    ("case", ["pcie-aspm-off", "--cmdline", "a"], "scenario 'pcie-aspm-off' does not exist"),
    ("no line", ["disk-unplug"], "bisect over the command line: it is empty"),
    ("empty line", ["disk-unplug", "--cmdline", " "], "bisect over the command line: it is empty"),
    ("all aside", ["disk-unplug", "--cmdline", "rdinit=/x"], "all of it is set aside: rdinit=/x"),
    ("open quote", ["disk-unplug", "--cmdline", 'a="b'], "a double quote is not closed"),
    ("long line", ["disk-unplug", "--cmdline", "x " * 1024], "the kernel takes 2047"),
    ("control character", ["disk-unplug", "--cmdline", "a\nb"], "holds a control character"),
    ("goal", ["disk-unplug", "--cmdline", "a", "--goal", "culprits"], "--goal 'culprits' does not exist"),
    ("over", ["disk-unplug", "--cmdline", "a", "--over", "cpus"], "--over 'cpus' does not exist"),
    ("repeat", ["disk-unplug", "--cmdline", "a", "--repeat", "0"], "--repeat"),
    ("machine", ["disk-unplug", "-m", "q53", "--cmdline", "a"], "machine template 'q53' does not exist"),
    ("bracket", ["disk-unplug", "-m", "q35[ports=2", "--cmdline", "a"], "at character 12: expected ',' or ']'"),
    ("machine type", ["disk-unplug", "-m", "pc-q35-0.1", "--cmdline", "a"], "no versioned machine type matches"),
    ("types", ["disk-unplug", "-m", "pc-q35-*", "--cmdline", "a"], "machine types match"),
    ("parameter", ["disk-unplug", "-p", "hotplu=native", "--cmdline", "a"], "'hotplu' does not exist"),
    ("two machines", ["disk-unplug", "-m", "q35", "-m", "i440fx", "--cmdline", "a"], "2 machines are given, wanted 1"),
    ("one machine", ["disk-unplug", "--over", "machine"], "1 machines are given, wanted 2"),
    ("same machines", ["disk-unplug", "--over", "machine", "-m", "q35", "-m", "q35"], "q35 and q35 are the same"),
    (
        "candidates",
        ["disk-unplug", "--cmdline", "a", "--candidates", "b"],
        "--candidates works only with --goal remedy",
    ),
    (
        "candidate that is there",
        ["disk-unplug", "--cmdline", "b", "--goal", "remedy", "--candidates", "b"],
        "every candidate is already on the command line",
    ),
    (
        "candidate that takes the channel",
        ["disk-unplug", "--cmdline", "b", "--goal", "remedy", "--candidates", "rdinit=/x"],
        "takes over the test bed's channel",
    ),
    ("no parameter", ["disk-unplug", "--over", "parameters"], "all those given have their default values"),
    ("no device", ["disk-unplug", "--over", "devices"], "none is given beyond its own"),
    ("no CPU", ["disk-unplug", "--over", "cpu"], "no CPU model is given"),
    ("CPU", ["disk-unplug", "--over", "cpu", "-p", "cpu=nosuch"], "nosuch"),
    ("global", ["disk-unplug", "-p", "globals=nosuch.x=1", "--cmdline", "a"], "device 'nosuch' does not exist"),
    ("QEMU", ["disk-unplug", "--qemu", "nosuch", "--cmdline", "a"], "QEMU 'nosuch': no such program"),
    ("accelerator", ["disk-unplug", "--accel", "hvf", "--cmdline", "a"], "accelerator 'hvf' does not exist"),
    ("log", ["disk-unplug", "--cmdline", "a", "--log", "FOLDER/none/x"], "FOLDER/none/x: it cannot be written"),
    ("json", ["disk-unplug", "--cmdline", "a", "--json", "FOLDER"], "FOLDER: it cannot be written"),
]


@pytest.mark.parametrize(("arguments", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_wrong_input_is_told_in_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    # narrow enough to wrap, were a message not exempt from that
    monkeypatch.setenv("COLUMNS", "200")
    assert refuse(monkeypatch, tmp_path, ["bisect", *arguments]) == 2
    assert_told_once(capsys.readouterr(), tmp_path, message)
    assert list(tmp_path.rglob("*.json")) == []

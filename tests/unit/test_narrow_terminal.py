"""What is printed fits a narrow terminal: no line is longer than it is wide, and no name is broken in the middle."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TYPE_CHECKING

import pexpect
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from testbed.campaign.compare.comparison import compare
from testbed.campaign.matrix.baseline import compare as compare_matrices
from testbed.campaign.matrix.baseline import summarized
from testbed.campaign.matrix.file import read_source
from testbed.campaign.matrix.matrix import expand
from testbed.campaign.matrix.tally import Tally
from testbed.cli import doctor, image_show
from testbed.cli.terminal import HarmlessConsole
from testbed.doctor import Check, State
from testbed.image.disk.records import parse_records
from testbed.model.comparison import Column
from testbed.model.matrix import MatrixRow, MatrixRun
from testbed.model.outcome import RunReport, Verdict
from testbed.report.compare import print_comparison
from testbed.report.folded import fold
from testbed.report.live import LiveView
from testbed.report.matrix import print_comparison as print_changes
from testbed.report.matrix import print_matrix

from ..paper_rundirs import write_rundir
from .compared import outcome
from .kernel_files import RELEASE, bzimage
from .test_disk_image import END, GRUB, volume

if TYPE_CHECKING:
    from pathlib import Path

WIDTHS = (80, 60)
LONG = "disk-plug-after-rescan q35[hotplug=native,port_properties={power_controller_present=off}] pcie_aspm=off"
REASON = (
    "the guest ignored the request: _OSC: OS supports lacks ASPM ClockPM (kernel.log:179), so pciehp is not bound to "
    "port 0000:00:02.0 and has no line in /proc/interrupts; suspect: pcie_aspm=off"
)
#: what a terminal shows of these is not text
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def on_a_terminal(width: int, *arguments: str, **environment: str) -> str:
    """Return what a command prints on a terminal of that width, with its escapes."""
    child = pexpect.spawn(
        sys.executable,
        ["-m", "testbed", *arguments],
        dimensions=(24, width),
        timeout=60,
        encoding="utf-8",
        env={**{name: value for name, value in os.environ.items() if name not in ("CI", "COLUMNS")}, **environment},
    )
    text = child.read()
    child.close()
    return str(text).replace("\r\n", "\n")


def lines_of(text: str) -> list[str]:
    return _ESCAPES.sub("", text).split("\n")


def assert_fits(text: str, width: int, *unbroken: str, pasted: tuple[str, ...] = ()) -> None:
    """Assert that all lines fit but those that are for pasting, and that each of the names stands whole."""
    lines = lines_of(text)
    assert [line for line in lines if cell_len(line) > width and not line.startswith(pasted)] == []
    assert [name for name in unbroken if not any(name in line for line in lines)] == []


def names_in(text: str) -> list[str]:
    """Return what must not be broken in an id: its words, and in brackets each parameter."""
    return [name for name in re.split(r"(?<=[ ,\[{])", text) if name]


@pytest.fixture
def rundir(tmp_path: Path) -> Path:
    """Write a case's rundir with a good, a bad and an undocumented cell."""
    folder = tmp_path / "runs" / "1" / "aspm"
    cells = [
        write_rundir(folder / "01", lines=1, id=LONG, reason=REASON, expected=Verdict.GOOD),
        write_rundir(folder / "02", lines=1, id=LONG, reason=REASON, verdict=Verdict.BAD, expected=Verdict.BAD),
        write_rundir(folder / "03", lines=1, id="disk-unplug q35", verdict=Verdict.BAD, expected=Verdict.GOOD),
    ]
    report = RunReport.model_validate({"case": "aspm", "result": "differs", "cells": cells})
    (folder / "report.json").write_text(report.model_dump_json(by_alias=True))
    return folder.parent


@pytest.mark.parametrize(
    ("width", "command", "names"),
    [
        (60, ["list"], ["expander-ports-stay-native", "disk-unplug-after-rescan", "level1"]),
        (80, ["list", "-v"], ["expander-ports-stay-native", "  port_properties", "pc-i440fx-6.0"]),
        (60, ["cache", "show"], ["saved guests"]),
    ],
    ids=["list", "list -v", "cache show"],
)
def test_a_list_fits(width: int, command: list[str], names: list[str], tmp_path: Path) -> None:
    text = on_a_terminal(width, *command, TESTBED_CACHE=str(tmp_path))
    assert_fits(text, width, *names, pasted=("0 MB of",))


@pytest.mark.parametrize("width", WIDTHS)
def test_the_doctors_checks_fit_and_many_that_are_alike_are_one(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Check(name="cases", state=State.OK, message=f"case-{number}: QEMU has it") for number in range(9)]
    found += [
        Check(name="cases", state=State.BAD, message="case-9: QEMU lacks igb, which its cells need", mend="qemu fetch"),
        Check(name="temporary folder", state=State.OK, message=f"{REASON} /tmp can be written"),
    ]
    monkeypatch.setattr(doctor, "examine", lambda qemu: found)

    def said(*, verbose: bool) -> str:
        with io.StringIO() as text:
            monkeypatch.setattr(doctor, "out", HarmlessConsole(file=text, width=width))
            with pytest.raises(typer.Exit):
                doctor.doctor(verbose=verbose)
            return text.getvalue()

    brief, whole = said(verbose=False), said(verbose=True)
    assert_fits(brief, width, "temporary folder", "case-9: QEMU lacks igb")
    assert "9 fine" in brief
    assert "case-3" not in brief
    assert whole.count("QEMU has it") == 9


@pytest.mark.parametrize("width", WIDTHS)
def test_a_run_is_a_line_a_cell_where_nothing_is_wrong(width: int, rundir: Path) -> None:
    text = on_a_terminal(width, "report", str(rundir))
    assert_fits(text, width, *names_in(LONG), "pcie_aspm=off", "kernel.log:179", "0000:00:02.0")
    table = text[: text.index("differs")]
    assert table.count("kernel.log:179") == 1  # of the bad cell


def test_details_are_behind_an_option_and_fit(rundir: Path) -> None:
    text = on_a_terminal(60, "report", str(rundir), "-v")
    assert_fits(text, 60, "DEVICE_DELETED", "(qmp.jsonl:4)", pasted=("/",))
    assert text[: text.index("differs")].count("kernel.log:179") == 2


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_fits(width: int) -> None:
    labels = ("q35[hotplug=native,port_properties={power_controller_present=off}]", "i440fx[topology=pci-bridge]")
    made = compare(
        [Column(label=label, machine="q35") for label in labels],
        ["disk-unplug"],
        [outcome(Verdict.BAD, 30.0, reason=REASON), outcome(Verdict.GOOD, 0.3)],
    )
    assert_fits(shown(width, lambda console: print_comparison(made, console)), width, *names_in(labels[0]), "ignored")


def shown(width: int, printing: object) -> str:
    """Return what is printed on a console of that width."""
    text = io.StringIO()
    printing(HarmlessConsole(file=text, width=width))  # type: ignore[operator]
    return text.getvalue()


def grid(verdict: Verdict) -> list[MatrixRun]:
    machines = ("q35[hotplug=native,port_properties={power_controller_present=off}]", "pc-i440fx-6.0")
    lines = ("", "quiet pcie_aspm=off pcie_ports=compat", "pcie_ports=native")
    return [
        MatrixRun(
            index=0,
            row=MatrixRow(axes={"machine": machine, "cmdline": line}),
            outcome=outcome(verdict, 1.0, reason=REASON),
        )
        for machine in machines
        for line in lines
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_matrix_and_its_changes_fit(width: int) -> None:
    cells = expand(read_source(None, {"scenario": ["disk-unplug"]}))
    text = shown(width, lambda console: print_matrix(cells, grid(Verdict.BAD), console, seconds=0, before=Tally()))
    names = ["port_properties={", "power_controller_present=off}]", "pcie_ports=native", "pcie_aspm=off"]
    assert_fits(text[: text.index("bad ")], width)
    old, new = (summarized((run.row, run.outcome) for run in grid(verdict)) for verdict in (Verdict.GOOD, Verdict.BAD))
    changes = shown(width, lambda console: print_changes(compare_matrices(old, new), console))
    assert_fits(changes[: changes.rindex("against")], width, *names, "regression")


@pytest.mark.parametrize("width", WIDTHS)
def test_what_a_disk_holds_fits(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "etc/os-release": b'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"',
        "boot/grub/grub.cfg": GRUB.replace(b"'A'", b"'Debian GNU/Linux, with a long title and Linux'"),
        "etc/modprobe.d/local-blacklist.conf": b"blacklist pciehp\nblacklist acpiphp\n",
        f"boot/vmlinuz-{RELEASE}": bzimage()[: 1 << 16],
    }
    records = parse_records(volume("vda1", **files) + END)
    monkeypatch.setattr(image_show, "survey_disk", lambda *given, **more: records)
    with io.StringIO() as stream:
        monkeypatch.setattr(image_show, "out", HarmlessConsole(file=stream, width=width))
        image_show.show("disk:customer.qcow2")
        text = stream.getvalue()
    assert_fits(text, width, RELEASE, "/boot/grub/grub.cfg:1", "local-blacklist.conf", "pci=noaer")


class Drawn(LiveView[int]):
    """Tells whether it draws in place."""

    def __rich__(self) -> str:
        return "drawn in place"


@pytest.mark.parametrize(
    ("environment", "drawn"),
    [
        ({}, True),
        ({"CI": "true"}, False),
        ({"CI": "false"}, True),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1"}, True),
    ],
    ids=str,
)
def test_progress_is_drawn_in_place_only_where_nobody_keeps_what_is_drawn(
    environment: dict[str, str], drawn: bool
) -> None:
    program = (
        "import time; from rich.console import Console; from tests.unit.test_narrow_terminal import Drawn\n"
        "with Drawn(Console()): time.sleep(0.3)\n"
    )
    child = pexpect.spawn(
        sys.executable,
        ["-c", program],
        dimensions=(24, 80),
        encoding="utf-8",
        env={**{name: value for name, value in os.environ.items() if name != "CI"}, "TERM": "xterm", **environment},
    )
    text = child.read()
    assert ("drawn in place" in text) is drawn, text
    if "NO_COLOR" in environment:
        assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|4[0-7])[0-9;]*m", text)


@given(st.text(st.sampled_from("ab ,[{=-é世")), st.integers(2, 12), st.integers(0, 3))
def test_folding_loses_nothing_and_fits(text: str, width: int, indent: int) -> None:
    lines = list(fold(text, width, indent))
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    longest = max(map(cell_len, re.split(r"(?<=[-=,\[{ ])", text)))
    assert all(cell_len(line) <= max(width, longest + indent) for line in lines)

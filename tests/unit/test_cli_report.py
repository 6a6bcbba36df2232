"""`testbed report` and `testbed bundle` as a user calls them, on rundirs whole, half and none."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from testbed.campaign.atlas.atlas import RECORD, Atlas, AtlasPlan
from testbed.campaign.matrix.results import Results
from testbed.cli import main
from testbed.host.archive import unpack_all
from testbed.model.atlas import AtlasColumn
from testbed.model.matrix import MatrixRun
from testbed.model.outcome import RunReport, Verdict

from ..paper_rundirs import write_rundir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["testbed", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return called


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Write a run: a case of two cells, and a scenario."""
    folder = tmp_path / "runs" / "1"
    cells = [
        write_rundir(folder / "aspm" / "01", lines=3, verdict=Verdict.BAD, expected=Verdict.BAD),
        write_rundir(folder / "aspm" / "02", lines=3, cmdline="quiet", expected=Verdict.GOOD),
    ]
    write_rundir(folder / "disk-unplug" / "01", lines=3, machine="i440fx")
    report = RunReport.model_validate({"case": "aspm", "result": "reproduced", "cells": cells})
    (folder / "aspm" / "report.json").write_text(report.model_dump_json(by_alias=True))
    return folder


KTAP_OF_A_SCENARIO = """\
  KTAP version 1
  # Subtest: disk-unplug
  1..1
  ok 1 disk-unplug i440fx
"""


def test_every_report_is_written_from_the_rundirs(cli: Cli, run: Path, tmp_path: Path) -> None:
    code, _, _ = cli(
        "report",
        str(run),
        "--junit",
        "j.xml",
        "--ktap",
        "k",
        "--html",
        "h.html",
        "--trace",
        "t.json",
        "--json",
        "o.json",
    )
    assert code == 0
    suites = ET.fromstring((tmp_path / "j.xml").read_text()).findall("testsuite")
    assert [(suite.attrib["name"], suite.attrib["tests"]) for suite in suites] == [("aspm", "2"), ("disk-unplug", "1")]
    assert (tmp_path / "k").read_text().endswith("\nok 1 aspm\n" + KTAP_OF_A_SCENARIO + "ok 2 disk-unplug\n")
    assert (tmp_path / "h.html").read_text().startswith("<!doctype html>")
    assert {event["pid"] for event in json.loads((tmp_path / "t.json").read_text())["traceEvents"]} == {1, 2, 3}
    reports = json.loads((tmp_path / "o.json").read_text())
    assert [(report["case"], report["result"], len(report["cells"])) for report in reports] == [
        ("aspm", "reproduced", 2),
        (None, "reproduced", 1),
    ]


def test_without_a_file_it_is_the_table(cli: Cli, run: Path) -> None:
    code, out, _ = cli("report", str(run))
    assert code == 0
    assert "case aspm: reproduced" in out
    assert "i440fx" in out


def test_a_cell_is_reported_once_and_where_it_lies_now(cli: Cli, run: Path, tmp_path: Path) -> None:
    moved = run.rename(tmp_path / "moved")
    code, out, _ = cli("report", str(moved), str(moved / "aspm"), "--json", "-")
    assert code == 0
    cells = [cell for report in json.loads(out) for cell in report["cells"]]
    assert [cell["rundir"] for cell in cells] == [
        str(moved / each) for each in ("aspm/01", "aspm/02", "disk-unplug/01")
    ]


def test_a_cell_that_did_not_end_is_named_and_left_out(cli: Cli, run: Path) -> None:
    (run / "aspm" / "02" / "outcome.json").unlink()
    code, out, err = cli("report", str(run), "--json", "-")
    assert code == 0
    assert str(run / "aspm" / "02") in err
    assert "no outcome in it" in err
    assert sum(len(report["cells"]) for report in json.loads(out)) == 2


def test_the_rundir_of_an_atlas_is_its_summary_and_its_page(cli: Cli, tmp_path: Path) -> None:
    made = {"package": "a package", "sha256": "0" * 64}
    kernels = [AtlasColumn(name="debian", version="6.1.0-57-amd64", **made)]
    qemus = [AtlasColumn(name=name, version=name, **made) for name in ("10.0.2", "11.1.3")]
    plan = AtlasPlan(cases=["nvme-behind-a-lost-link"], kernels=kernels, qemus=qemus, gaps=[], cross="full")
    folder = tmp_path / "atlas"
    grid = Atlas(plan=plan)
    outcomes = [write_rundir(folder / "matrix" / f"{n}", lines=1, id=grid[n].id) for n in range(len(grid) - 1)]
    (folder / RECORD).write_text(plan.record)
    with Results(folder) as results:
        for n, outcome in enumerate(outcomes):
            results.add(MatrixRun(index=n, row=grid.row(n), outcome=outcome))
    code, out, _ = cli("report", str(folder))
    assert code == 0
    assert "nvme-behind-a-lost-link" in out, "a name is not cut"
    assert "not run" in out
    assert "i440fx" not in out, "its cells one by one are another report"
    assert cli("report", str(folder), "--page", "page.html")[0] == 0
    assert '<th scope="col">Linux 6.1.0, QEMU 11.1.3</th>' in (tmp_path / "page.html").read_text()
    assert cli("report", str(folder), "--page", "page.md")[0] == 0
    assert (tmp_path / "page.md").read_text().startswith("# Atlas\n\nIt was interrupted: ")
    code, _, err = cli("report", str(folder / "matrix"), "--page", "page.md")
    assert (code, "needs the rundir of one atlas" in err) == (2, True)


WRONG = [
    (["report", "none"], "rundir none: no such folder"),
    (["report", "empty"], "rundir empty: is not a rundir"),
    (["report", "half"], "rundir half: outcome.json is missing: the run is still going, or ended before"),
    (["report", "cut"], "cut: outcome.json is not JSON"),
    (["report", "other"], "other: outcome.json does not fit this test bed's schema 1: scenario: Field required"),
    (["report", "later/01"], "later: report.json is of schema 2, this test bed reads schema 1"),
    (["report", "whole", "none"], "rundir none: no such folder"),
    (["report", "whole", "--html", "no/r.html"], "writing no/r.html: it cannot be written"),
    (["report", "whole", "--junit", "empty"], "writing empty: it cannot be written"),
    (["report", "whole", "--ktap", "no/k"], "writing no/k: it cannot be written"),
    (["report", "whole", "--trace", "no/t"], "writing no/t: it cannot be written"),
    (["report", "whole", "--page", "no/p"], "writing no/p: it cannot be written"),
    (["report", "whole", "--json", "no/j"], "writing no/j: it cannot be written"),
    (["bundle", "none"], "rundir none: no such folder"),
    (["bundle", "half"], "rundir half: outcome.json is missing"),
    (["bundle", "whole"], "whole: argv.json and reproduce.sh missing: no machine ran (good: released after 6.4 s)"),
    (["bundle", "gone"], "vmlinux is not there: its image was rebuilt or removed"),
    (["bundle", "."], "it holds"),
    (["bundle", "whole", "-o", "x.zip"], "a bundle is a .tar.gz file"),
    (["bundle", "whole", "-o", "no/x.tar.gz"], "writing no/x.tar.gz: it cannot be written"),
]


@pytest.fixture
def wrong(tmp_path: Path) -> None:
    for name in ("empty", "half", "cut", "other"):
        (tmp_path / name).mkdir()
    for name in ("whole", "gone", "later/01"):
        write_rundir(tmp_path / name, lines=1)
    (tmp_path / "half" / "machine.yaml").touch()
    (tmp_path / "cut" / "outcome.json").write_text('{"id": "disk-un')
    (tmp_path / "other" / "outcome.json").write_text('{"id": "x"}')
    (tmp_path / "later" / "report.json").write_text('{"schema": 2}')
    startable(tmp_path / "gone", tmp_path / "no-image")


def startable(rundir: Path, image: Path) -> None:
    """Write what a bundle is made of: the command and the script."""
    argv = ["/usr/bin/qemu", "-name", "testbed", "-kernel", f"{image}/vmlinux", "-initrd", f"{image}/initramfs"]
    disks = [f"{rundir}/disk1.raw", "/srv/customer.raw"]
    for disk in disks:
        argv += ["-blockdev", json.dumps({"driver": "raw", "file": {"driver": "file", "filename": disk}})]
    (rundir / "argv.json").write_text(json.dumps(argv))
    (rundir / "reproduce.sh").write_text("#!/bin/sh\necho reproduced\n")


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_input_is_told_in_one_message(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, _, err = cli(*arguments)
    assert code == 2
    assert message in err
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bundle_holds_what_a_reader_needs_and_no_disk(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    for name in ("vmlinux", "initramfs"):
        (tmp_path / "image" / name).write_text(name)
    write_rundir(tmp_path / "cell", lines=3)
    startable(tmp_path / "cell", tmp_path / "image")
    (tmp_path / "cell" / "disk1.raw").write_text("disk")
    code, out, err = cli("bundle", "cell", "-o", "b.tar.gz")
    assert code == 0
    assert "b.tar.gz: 0.0 MiB" in out
    assert "disk /srv/customer.raw is not packed" in err
    assert "disk1" not in err
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        unpack_all(archive, tmp_path / "out")
    bundle = tmp_path / "out" / "b"
    names = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert names >= {"reproduce.sh", "image/kernel", "image/initramfs", "report.html", "README.txt", "versions.json"}
    assert "logs/kernel.log" in names
    assert not {name for name in names if name.endswith(".raw")}
    assert (bundle / "image" / "kernel").read_text() == "vmlinux"
    assert (bundle / "reproduce.sh").stat().st_mode & stat.S_IXUSR
    assert subprocess.run([bundle / "reproduce.sh"], capture_output=True, check=True).stdout == b"reproduced\n"
    versions = json.loads((bundle / "versions.json").read_text())
    assert versions["kernel"] == "linux-image-6.1.0-1-amd64 6.1.1-1"
    assert set(versions["files"]) == {"image/kernel", "image/initramfs"}


def test_a_disk_booted_by_its_own_loader_is_not_packed(cli: Cli, tmp_path: Path) -> None:
    rundir = tmp_path / "cell"
    write_rundir(rundir, lines=1)
    outcome = json.loads((rundir / "outcome.json").read_text())
    (rundir / "outcome.json").write_text(json.dumps({**outcome, "boot": "loader", "image": "disk:/srv/a.raw"}))
    node = {"driver": "qcow2", "node-name": "system", "file": {"driver": "file", "filename": f"{rundir}/system.qcow2"}}
    argv = ["/usr/bin/qemu", "-name", "testbed", "-blockdev", json.dumps(node)]
    (rundir / "argv.json").write_text(json.dumps(argv))
    (rundir / "reproduce.sh").write_text("#!/bin/sh\n")
    (rundir / "system.qcow2").write_text("what its guest wrote")
    code, _, err = cli("bundle", "cell", "-o", "b.tgz")
    assert code == 0
    assert "disk:/srv/a.raw is not packed: reproduce.sh will look for it there, or where SYSTEM= says" in err
    with tarfile.open(tmp_path / "b.tgz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        readme = archive.extractfile("b/README.txt")
        assert readme
        assert b"says what was done to it, on its console and by QMP" in readme.read()
    assert {"reproduce.sh", "README.txt", "logs/outcome.json"} <= names
    assert not {name for name in names if name.startswith("image/") or name.endswith(".qcow2")}


def test_a_uefi_firmware_is_packed_as_the_machine_found_it(cli: Cli, tmp_path: Path) -> None:
    write_rundir(tmp_path / "cell", lines=1)
    for name in ("vmlinux", "initramfs", "code.fd", "first.fd"):
        (tmp_path / name).write_text(name)
    startable(tmp_path / "cell", tmp_path)
    argv = json.loads((tmp_path / "cell" / "argv.json").read_text())
    for path in (tmp_path / "code.fd", tmp_path / "cell" / "firmware-variables"):
        argv += ["-blockdev", json.dumps({"driver": "raw", "file": {"driver": "file", "filename": str(path)}})]
    (tmp_path / "cell" / "argv.json").write_text(json.dumps(argv))
    record = {"code": str(tmp_path / "code.fd"), "variables": str(tmp_path / "first.fd"), "format": "raw"}
    (tmp_path / "cell" / "firmware.json").write_text(json.dumps(record))
    code, _, err = cli("bundle", "cell", "-o", "b.tgz")
    assert code == 0
    assert "code.fd" not in err
    with tarfile.open(tmp_path / "b.tgz") as archive:
        unpack_all(archive, tmp_path / "out")
    assert (tmp_path / "out/b/uefi/code").read_text() == "code.fd"
    assert (tmp_path / "out/b/uefi/variables").read_text() == "first.fd"
    (tmp_path / "first.fd").unlink()
    code, _, err = cli("bundle", "cell", "-o", "c.tgz")
    assert code == 2
    assert "first.fd is not there: the firmware was removed" in err


def test_the_firmware_of_a_fetched_qemu_is_packed_as_qemu_would_find_it(cli: Cli, tmp_path: Path) -> None:
    for folder, text in (("a", "first"), ("b", "second")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "bios.bin").write_text(text)
    (tmp_path / "b" / "vga.rom").write_text("vga")
    (tmp_path / "b" / "keymap").write_text("none of it")
    write_rundir(tmp_path / "cell", lines=1)
    for name in ("vmlinux", "initramfs"):
        (tmp_path / name).touch()
    startable(tmp_path / "cell", tmp_path)
    argv = json.loads((tmp_path / "cell" / "argv.json").read_text())
    prefix = ["/p/usr/bin/qemu", "-L", str(tmp_path / "a"), "-L", str(tmp_path / "b")]
    (tmp_path / "cell" / "argv.json").write_text(json.dumps([*prefix, *argv[1:]]))
    assert cli("bundle", "cell", "-o", "b.tgz")[0] == 0
    with tarfile.open(tmp_path / "b.tgz") as archive:
        firmware = {member.name for member in archive if "/firmware/" in member.name}
        bios = archive.extractfile("b/firmware/bios.bin")
        assert bios
        assert bios.read() == b"first"
    assert firmware == {"b/firmware/bios.bin", "b/firmware/vga.rom"}

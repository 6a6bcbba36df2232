"""Wrong input at the command line: exit code 2, one clear message, no traceback, and nothing left running."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .wrong_input import assert_told_once, refuse

if TYPE_CHECKING:
    from pathlib import Path

#: two devices in one port
COLLISION = """\
description: two devices in one port
parameters: {}
---
machine_type: q35
devices:
- {driver: pcie-root-port, id: rp1, bus: pcie.0, addr: "0x2"}
- {driver: e1000, id: dev1, bus: rp1}
- {driver: e1000, id: dev2, bus: rp1}
"""

CASE = """\
title: t
description: d
cells:
- machine: q35
  scenario: disk-unplug
  expect: [good, bad]
  outcome: deleted
"""

#: what is given after `testbed`, then what the message says; FOLDER is the test's own
TABLE: list[tuple[str, list[str], str]] = [
    ("nothing", ["run"], "nothing to run"),
    ("case or scenario", ["run", "pcie-aspm-of"], "case or scenario 'pcie-aspm-of' does not exist"),
    ("machine", ["run", "disk-unplug", "-m", "q53"], "machine template 'q53' does not exist"),
    ("template path", ["run", "disk-unplug", "-m", "FOLDER/no.yaml.j2"], "no.yaml.j2: no such file"),
    ("template name no file has", ["run", "disk-unplug", "-m", f"./{'a' * 300}"], "File name too long"),
    ("scenario name no file has", ["run", f"./{'a' * 300}.yaml"], "File name too long"),
    ("kernel name no file has", ["run", "disk-unplug", "--image", f"path:/{'a' * 300}"], "File name too long"),
    ("rundir name no folder has", ["report", f"./{'a' * 300}"], "File name too long"),
    ("parameter", ["run", "disk-unplug", "-p", "hotplu=native"], "'hotplu' does not exist"),
    ("parameter type", ["run", "disk-unplug", "-p", "cpus=two"], "parameter cpus: got 'two', wanted int"),
    ("parameter range", ["run", "disk-unplug", "-p", "cpus=0"], "parameter cpus: got 0, wanted at least 1"),
    ("parameter choice", ["run", "disk-unplug", "-p", "hotplug=x"], "wanted one of default, acpi, native"),
    ("parameter syntax", ["run", "disk-unplug", "-p", "hotplug"], "is not NAME=VALUE"),
    ("option", ["run", "replug-cycles", "-s", "cycle=5"], "option of scenario replug-cycles: 'cycle' does not exist"),
    ("option type", ["run", "replug-cycles", "-s", "cycles=many"], "option cycles: got 'many', wanted int"),
    ("option syntax", ["run", "replug-cycles", "-s", "cycles"], "is not NAME=VALUE"),
    ("option of a case", ["run", "ghost-disk", "-s", "by=power"], "--scenario-option is fixed by its cells"),
    ("too few ports", ["run", "disk-unplug", "-p", "ports=0"], "1 devices need as many ports, there are 0"),
    ("device", ["run", "disk-unplug", "-p", "devices=nosuch"], "device 'nosuch' does not exist"),
    ("property", ["run", "disk-unplug", "-p", "port_properties=chasis=1"], "property 'chasis' does not exist"),
    ("machine type", ["run", "disk-unplug", "-p", "type=pc-q35-0.1"], "machine type 'pc-q35-0.1' does not exist"),
    ("odd machine type", ["run", "disk-unplug", "-p", "type=q35,x=1"], "machine_type: String should match pattern"),
    ("occupied port", ["run", "disk-unplug", "-m", "FOLDER/collision.yaml.j2"], "rp1 slot 0.0 is occupied by dev1"),
    ("undefined variable", ["run", "disk-unplug", "-m", "FOLDER/undefined.yaml.j2"], "undefined.yaml.j2:4: 'nope' is"),
    ("template YAML", ["run", "disk-unplug", "-m", "FOLDER/syntax.yaml.j2"], "(rendered):2: not valid YAML"),
    ("case file", ["run", "FOLDER/wrong.yaml"], "wrong.yaml:6: 2 verdicts for 1 scenarios"),
    ("scenario file", ["run", "unnamed.py"], "unnamed.py:3: NameError: name 'nope' is not defined"),
    ("QEMU missing", ["run", "disk-unplug", "--qemu", "no-such-qemu"], "QEMU 'no-such-qemu': no such program"),
    ("QEMU is none", ["run", "disk-unplug", "--qemu", "/bin/true"], "QEMU /bin/true: cannot be probed"),
    ("accelerator", ["run", "disk-unplug", "--accel", "hvf"], "accelerator 'hvf' does not exist"),
    ("open quote", ["run", "disk-unplug", "--cmdline", 'a="b'], "a double quote is not closed"),
    ("long line", ["run", "disk-unplug", "--cmdline", "x" * 2048], "the kernel takes 2047"),
    ("no serial lines", ["run", "disk-unplug", "--cmdline", "8250.nr_uarts=0"], "takes over the test bed's channel"),
    ("one serial line", ["run", "disk-unplug", "--cmdline", "8250.nr_uarts=1"], "takes over the test bed's channel"),
    ("other init", ["run", "disk-unplug", "--cmdline", "rdinit=/bin/sh"], "'rdinit=/bin/sh' takes over the test bed's"),
    ("control character", ["run", "disk-unplug", "--cmdline", "a\nb"], "holds a control character"),
    ("not UTF-8", ["run", "disk-unplug", "--cmdline", "a=\udcff"], "is not UTF-8 text"),
    ("image", ["run", "disk-unplug", "--image", "debain"], "image recipe 'debain' does not exist"),
    ("json in no folder", ["run", "disk-unplug", "--json", "FOLDER/none/x.json"], "FOLDER/none/x.json"),
    ("json is a folder", ["run", "disk-unplug", "--json", "FOLDER"], "FOLDER"),
    ("html in no folder", ["run", "disk-unplug", "--html", "FOLDER/none/x.html"], "writing FOLDER/none/x.html"),
    ("junit is a folder", ["run", "disk-unplug", "--junit", "FOLDER"], "writing FOLDER: it cannot be written"),
    ("rundir in a file", ["run", "disk-unplug", "--rundir", "FOLDER/file/runs"], "FOLDER/file/runs"),
    ("no jobs", ["run", "disk-unplug", "--jobs", "0"], "Invalid value for '--jobs'"),
    ("jobs", ["run", "disk-unplug", "--jobs", "many"], "Invalid value for '--jobs'"),
    ("case with machine", ["run", "pcie-aspm-off", "--machine", "q35"], "--machine is fixed by its cells"),
    ("case with parameter", ["run", "pcie-aspm-off", "-p", "ports=1"], "--param is fixed by its cells"),
    ("case with line", ["run", "pcie-aspm-off", "--cmdline", "quiet"], "--cmdline is fixed by its cells"),
    ("option", ["run", "disk-unplug", "--nosuch"], "No such option"),
    ("command", ["rum"], "command 'rum' does not exist"),
    ("list", ["list", "case"], "list of 'case' does not exist"),
    ("render machine", ["render", "q53"], "machine template 'q53' does not exist"),
    ("render line", ["render", "q35", "--cmdline", 'a="b'], "a double quote is not closed"),
    ("render device", ["render", "q35", "-p", "devices=nosuch"], "device 'nosuch' does not exist"),
    ("render image", ["render", "q35", "--image", "debain"], "image recipe 'debain' does not exist"),
    ("image build", ["image", "build", "debain"], "image recipe 'debain' does not exist"),
    ("image remove", ["image", "remove", "debain"], "image 'debain' does not exist"),
    ("kernel kind", ["run", "disk-unplug", "--image", "iso:x"], "iso"),
    ("build tree", ["run", "disk-unplug", "--image", "path:FOLDER/none"], "FOLDER/none"),
    ("not a kernel", ["run", "disk-unplug", "--image", "path:FOLDER/file"], "FOLDER/file"),
    ("deb missing", ["image", "build", "deb:FOLDER/none.deb"], "FOLDER/none.deb"),
    ("deb truncated", ["image", "build", "deb:FOLDER/half.deb"], "FOLDER/half.deb"),
    ("rpm missing", ["image", "build", "rpm:FOLDER/none.rpm"], "FOLDER/none.rpm"),
    ("rpm that is none", ["image", "build", "rpm:FOLDER/half.deb"], "FOLDER/half.deb"),
    ("recipe missing", ["image", "build", "FOLDER/none.yaml"], "none.yaml: no such file"),
    ("recipe's key", ["image", "build", "FOLDER/recipe.yaml"], "recipe.yaml:3"),
    ("path", ["run", "disk-unplug", "--path", "FOLDER/none"], "FOLDER/none: no such folder"),
    ("list's path", ["list", "--path", "FOLDER/none"], "FOLDER/none: no such folder"),
    ("scenario missing", ["run", "FOLDER/none.py"], "none.py: no such file"),
    ("scenario's syntax", ["run", "FOLDER/syntax.py"], "syntax.py:2: "),
    ("scenario's import", ["run", "FOLDER/broken.py"], "broken.py:2: ModuleNotFoundError"),
    ("no scenario", ["run", "FOLDER/empty.py"], "empty.py: defines no scenario"),
    ("scenario in a file", ["run", "FOLDER/empty.py:nope"], "scenario 'nope' does not exist"),
    ("record is no scenario", ["boot", "q35", "--record", "FOLDER/x.txt"], "x.txt: a scenario's file ends with .yaml"),
    ("record without folder", ["boot", "q35", "--record", "FOLDER/no/x.yaml"], "x.yaml: no such folder"),
    ("case missing", ["run", "FOLDER/none.yaml"], "none.yaml: no such file"),
    ("case that is none", ["run", "FOLDER/recipe.yaml"], "recipe.yaml:1"),
    ("case that is no YAML", ["run", "FOLDER/bad.yaml"], "bad.yaml:2: not valid YAML"),
    ("time", ["run", "disk-unplug", "--time", "slow"], "'slow' does not exist"),
    ("keep", ["run", "disk-unplug", "--keep", "never"], "never"),
    ("boot machine", ["boot", "q53"], "machine template 'q53' does not exist"),
    ("boot parameter", ["boot", "q35", "-p", "cpus=two"], "parameter cpus: got 'two', wanted int"),
    ("boot line", ["boot", "q35", "--cmdline", "rdinit=/x"], "takes over the test bed's channel"),
    ("cache file missing", ["cache", "import", "FOLDER/none.tar"], "none.tar"),
    ("cache file that is none", ["cache", "import", "FOLDER/file"], "FOLDER/file"),
    ("cache export", ["cache", "export", "FOLDER/none/x.tar"], "FOLDER/none/x.tar"),
    ("fetch no suite", ["qemu", "fetch", "a/b"], "fetching QEMU 'a/b': not the name of a suite"),
    ("remove no QEMU", ["qemu", "remove", "nosuch"], "fetched QEMU 'nosuch' does not exist"),
    ("render QEMU", ["render", "q35", "--qemu", "nosuch"], "QEMU 'nosuch': no such program, and none of that name was"),
    ("case with no QEMU", ["run", "pcie-aspm-off", "--qemu", "nosuch"], "QEMU 'nosuch': no such program"),
    ("doctor's path", ["doctor", "--path", "FOLDER/none"], "FOLDER/none: no such folder"),
    ("clean's option", ["clean", "--everything"], "No such option"),
    ("mmio machine", ["mmio", "survey", "q53"], "machine template 'q53' does not exist"),
    ("mmio offset", ["mmio", "survey", "q35", "--offset", "x"], "--offset 'x': is not a number"),
    ("mmio width", ["mmio", "probe", "q35", "--bar", "0", "--width", "3"], "accesses are 1, 2, 4 or 8 bytes wide"),
    ("mmio alignment", ["mmio", "probe", "q35", "--bar", "4", "--offset", "0x13"], "is not aligned to 4 bytes"),
    ("mmio negative", ["mmio", "probe", "q35", "--bar", "4", "--offset", "-4"], "offset -0x4: is not aligned"),
    ("mmio no BAR", ["mmio", "probe", "q35"], "route user: needs a BAR"),
    ("mmio BAR", ["mmio", "probe", "q35", "--bar", "7"], "Invalid value for '--bar'"),
    ("mmio route", ["mmio", "probe", "q35", "--bar", "0", "--route", "x"], "--route 'x' does not exist"),
    ("mmio value", ["mmio", "probe", "q35", "--bar", "0", "--width", "1", "--write", "0x100"], "does not fit into 1"),
    ("mmio stall", ["mmio", "probe", "q35", "--bar", "0", "--stall", "ever"], "stall 'ever': there is no model"),
    (
        "mmio device model",
        ["run", "mmio-device-answers", "-s", "stall=smap-erratum"],
        "a device cannot tell who makes",
    ),
    ("mmio trace missing", ["mmio", "explain", "FOLDER/none"], "reading FOLDER/none: No such file"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "file").touch()
    (tmp_path / "collision.yaml.j2").write_text(COLLISION)
    (tmp_path / "undefined.yaml.j2").write_text("description: d\nparameters: {}\n---\nmachine_type: {{ nope }}\n")
    (tmp_path / "syntax.yaml.j2").write_text("description: d\nparameters: {}\n---\nmachine_type: q35\n]\n")
    (tmp_path / "wrong.yaml").write_text(CASE)
    (tmp_path / "bad.yaml").write_text("title: [\n")
    (tmp_path / "recipe.yaml").write_text('description: d\nkernel: "apt:linux-image-amd64"\nmodulos: [e1000]\n')
    (tmp_path / "half.deb").write_bytes(b"!<arch>\ndebian-binary   1")
    (tmp_path / "syntax.py").write_text("import os\ndef x(:\n")
    (tmp_path / "broken.py").write_text("import os\nimport no_such_module\n")
    (tmp_path / "empty.py").write_text("import os\n")
    (tmp_path / "unnamed.py").write_text("import asyncio\n\nnope\n")
    monkeypatch.chdir(tmp_path)
    # what a case by path adds stays for its process, which here is every test's
    monkeypatch.setattr("testbed.model.catalog._added", [])
    # narrow enough to wrap, were a message not exempt from that
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.mark.parametrize(("arguments", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_wrong_input_is_told_in_one_message(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert refuse(monkeypatch, folder, arguments) == 2
    assert_told_once(capsys.readouterr(), folder, message)


@pytest.mark.parametrize("arguments", [row[1] for row in TABLE if row[1][0] == "run"], ids=str)
def test_wrong_input_leaves_no_outcome(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    refuse(monkeypatch, folder, arguments)
    assert list(folder.rglob("*.json")) == []

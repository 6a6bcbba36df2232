"""`testbed explain` at the command line: what is printed, the exit codes, and wrong input told in one message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from . import explain_texts as texts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "dmesg.txt").write_text(texts.ASPM_OFF)
    (tmp_path / "healthy.txt").write_text(texts.NATIVE)
    (tmp_path / "lspci.txt").write_text(texts.Q35_HOST + texts.port(listens=False, reports=False) + texts.disk())
    (tmp_path / "interrupts.txt").write_text(texts.interrupts(texts.DISK_INTERRUPT))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "program").write_bytes(b"\x7fELF" + bytes(500))
    (tmp_path / "notes.txt").write_text("call the customer back\n")
    (tmp_path / "a folder").mkdir()
    return tmp_path


def explain(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "testbed", "explain", *arguments]
    env = {**os.environ, "COLUMNS": "250"}
    return subprocess.run(command, cwd=folder, env=env, input=stdin, capture_output=True, check=False)


def test_a_suspect_is_named_with_its_lines_and_the_command_that_proves_it(folder: Path) -> None:
    done = explain(folder, "dmesg.txt", "lspci.txt", "interrupts.txt")
    shown = done.stdout.decode()
    assert done.returncode == 1
    for words in (
        "dmesg.txt       kernel log (lines 1 to 9)",
        "who controls what below PNP0A08:00 PCI0, bus 0000:00-ff",
        "costs hot-plug, AER, PME",
        "dmesg.txt:2, dmesg.txt:7, dmesg.txt:8",
        "  testbed run disk-unplug --machine q35 -p hotplug=native --cmdline pcie_aspm=off\n",
        "--cmdline 'BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet pcie_aspm=off'\n",
        "  BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet\n",
    ):
        assert words in shown
    assert done.stderr == b""


def test_nothing_suspicious_exits_0_and_says_so(folder: Path) -> None:
    done = explain(folder, "healthy.txt")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"nothing suspicious was found" in done.stdout


def test_standard_input_is_a_file_like_any_other(folder: Path) -> None:
    done = explain(folder, "-", "lspci.txt", stdin=texts.ASPM_OFF.encode())
    assert done.returncode == 1
    assert b"stdin:7" in done.stdout


def test_json_holds_everything_that_is_printed(folder: Path) -> None:
    done = explain(folder, "--json", "dmesg.txt", "lspci.txt")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert (found["schema"], found["suspicious"]) == (1, True)
    assert found["sources"][0] == {"file": "dmesg.txt", "kind": "kernel log", "first": 1, "last": 9}
    assert found["suspects"][0]["name"] == "pcie_aspm=off"
    assert {row["service"]: row["holder"] for row in found["control"]}["hot-plug"] == "nobody"
    assert set(found) >= {"subject", "contradictions", "observations", "steps"}


def test_a_files_text_steers_neither_terminal_nor_markup(folder: Path) -> None:
    (folder / "odd.txt").write_text(texts.boot("ro x=\x07\x1b]0;t\x07 [red]y[/nope] pcie_aspm=off"))
    done = explain(folder, "odd.txt")
    assert done.returncode == 1
    assert b"\x07" not in done.stdout
    assert b"\x1b" not in done.stdout
    assert b"[red]y[/nope]" in done.stdout


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["empty.txt"], "reading empty.txt: the file is empty"),
        (["program"], "reading program: the file is binary"),
        (["notes.txt"], "reading notes.txt: not a kind of file that can be explained"),
        (["a folder"], "reading a folder: Is a directory"),
        (["none.txt"], "reading none.txt: No such file or directory"),
        (["-"], "reading stdin: the file is empty"),
        (["dmesg.txt", "notes.txt"], "reading notes.txt: not a kind of file"),
        (["dmesg.txt", "healthy.txt"], "explaining dmesg.txt and healthy.txt: both hold kernel log"),
        ([], "Missing argument"),
    ],
)
def test_wrong_input_is_told_in_one_message(folder: Path, files: list[str], words: str) -> None:
    done = explain(folder, *files)
    told = done.stderr.decode()
    assert done.returncode == 2
    assert words in " ".join(told.split())
    assert done.stdout == b""
    assert "Traceback" not in told
    assert not files or "hint: " in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_named(folder: Path) -> None:
    (folder / "dmesg.txt").chmod(0)
    done = explain(folder, "dmesg.txt")
    assert done.returncode == 2
    assert b"reading dmesg.txt: Permission denied" in done.stderr

"""`testbed mmio explain` as a user has it: exit codes, streams, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.unit.kvm_traces import GPA, Trace

if TYPE_CHECKING:
    from pathlib import Path


def explain(folder: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "testbed", "mmio", "explain", *arguments]
    env = {**os.environ, "COLUMNS": "250"}
    return subprocess.run(command, cwd=folder, env=env, input=given, capture_output=True, text=True, check=False)


def stuck(turns: int = 100) -> str:
    trace = Trace()
    vcpu = trace.thread(0)
    for _ in range(turns):
        vcpu.stuck()
    vcpu.timer()
    return trace.text()


def healthy() -> str:
    trace = Trace(flags="d..2. ")
    for _ in range(100):
        trace.thread(0).intel_read(GPA, 1)
    return trace.text()


def test_a_loop_exits_1_and_names_cause_and_remedies(tmp_path: Path) -> None:
    (tmp_path / "trace.txt").write_text(stuck())
    result = explain(tmp_path, "trace.txt")
    assert result.returncode == 1
    assert result.stderr == ""
    for words in (
        "100 exits without progress at rip 0x4f1184, gpa 0xfe000014",
        "write (npf, error code 0x10000000f: P W U RSVD GUEST_FINAL",
        "user, by its rip",
        "trace.txt:1 to trace.txt:298",
        "AMD erratum 1096 fits",
        "host: Linux 5.3 or later",
        "clearcpuid=smap",
        "nosmap",
        "smap=off",
        "disable-modern=on",
    ):
        assert words in result.stdout


def test_a_healthy_trace_exits_0_with_its_registers(tmp_path: Path) -> None:
    result = explain(tmp_path, "-", given=healthy())
    assert result.returncode == 0
    assert "no exit loop" in result.stdout
    assert "0xfe000014" in result.stdout


def test_json_holds_the_same(tmp_path: Path) -> None:
    result = explain(tmp_path, "-", "--json", given=stuck())
    assert result.returncode == 1
    value = json.loads(result.stdout)
    loop = value["loops"][0]
    assert (loop["rip"], loop["gpa"], loop["access"], loop["mode"]) == ("0x4f1184", "0xfe000014", "write", "user")
    assert (loop["exits"], loop["vcpu"], loop["ending"]) == (100, 0, "repeating")
    assert loop["cause"]["name"] == "AMD erratum 1096"
    assert loop["cause"]["remedies"]
    assert value["schema"] == 1
    registers = json.loads(explain(tmp_path, "-", "--json", given=healthy()).stdout)["registers"]
    assert [(row["address"], row["reads"], row["widths"]) for row in registers] == [("0xfe000014", 100, [4])]


def test_a_trace_without_any_witness_of_progress_is_told_apart(tmp_path: Path) -> None:
    assert "no event that would show progress" in explain(tmp_path, "-", given=stuck()).stdout
    assert "no event that would show progress" not in explain(tmp_path, "-", given=stuck() + healthy()).stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "trace: holds no event"),
        (b"hello\n", "trace:1: 'hello' is not a line of a trace; expected an event of `trace-cmd report` or ftrace"),
        (b"\x17\x08\x44tracing6\0", "trace: is trace-cmd's binary trace.dat, expected text"),
        (b"\x1f\x8b\x08\0\0", "reading trace: it is compressed with gzip"),
        (bytes(range(256)) * 1000, "is not a line of a trace"),
        (
            b"a-1 [000] 1.000000: kvm_mmio: mmio write len 1 gpa 0x1 val 0x1\n",
            "but no kvm_exit: it cannot show",
        ),
    ],
)
def test_what_is_no_trace_exits_2_without_a_traceback(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "trace").write_bytes(content)
    result = explain(tmp_path, "trace")
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_file_and_a_folder_exit_2(tmp_path: Path) -> None:
    for name, words in (("none", "No such file or directory"), (".", "Is a directory")):
        result = explain(tmp_path, name)
        assert result.returncode == 2
        assert f"reading {name}: {words}" in result.stderr


def test_a_line_without_an_end_is_not_read_whole(tmp_path: Path) -> None:
    head, rest = stuck().split("\n", 1)
    (tmp_path / "trace.txt").write_text(f"{head}{' ' * 1_000_000}\n{rest}")
    assert "trace.txt:1 to trace.txt:298" in explain(tmp_path, "trace.txt").stdout


def test_at_least_sets_what_counts_as_a_loop(tmp_path: Path) -> None:
    short = explain(tmp_path, "-", "--json", "--at-least", "101", given=stuck())
    assert short.returncode == 1
    value = json.loads(short.stdout)
    assert (value["loops"], [each["exits"] for each in value["suspicions"]]) == ([], [100])
    assert len(json.loads(explain(tmp_path, "-", "--json", "--at-least", "100", given=stuck()).stdout)["loops"]) == 1
    assert explain(tmp_path, "-", "--at-least", "1", given=stuck()).returncode == 2


def test_five_lines_are_called_what_they_are(tmp_path: Path) -> None:
    result = explain(tmp_path, "-", given="".join(stuck(5).splitlines(keepends=True)[:15]))
    assert result.returncode == 1
    for words in ("5 exits in a row without progress", "consistent with AMD erratum 1096", "too few", "5.2.16"):
        assert words in result.stdout


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_trace_may_be_wide(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "trace.txt").write_bytes(stuck(20).encode(encoding))
    assert json.loads(explain(tmp_path, "trace.txt", "--json").stdout)["loops"][0]["exits"] == 20


def test_how_a_vcpu_ended_is_told_by_itself_and_by_qemu(tmp_path: Path) -> None:
    trace = Trace()
    vcpu = trace.thread(0)
    vcpu.write("kvm_exit", "reason EPT_MISCONFIG rip 0x133025 info 0 0")
    vcpu.write("kvm_emulate_insn", "0:133025: ec")
    vcpu.write("kvm_emulate_insn", "0:133025: ec FAIL")
    vcpu.write("kvm_userspace_exit", "reason KVM_EXIT_INTERNAL_ERROR (17)")
    log = "KVM internal error. Suberror: 1\nextra data[0]: 0x0000000000000002\nextra data[1]: 0x00000000000000ec\n"
    result = explain(tmp_path, "-", given=log + trace.text())
    assert result.returncode == 1
    for words in (
        "KVM_EXIT_INTERNAL_ERROR (17)",
        "EPT_MISCONFIG at rip 0x133025",
        "QEMU stops the VM",
        "suberror 1",
        "0x2 0xec",
        "no exit loop",
    ):
        assert words in result.stdout
    value = json.loads(explain(tmp_path, "-", "--json", given=log + trace.text()).stdout)
    assert [(each["kind"], each["rip"], each["instruction"]) for each in value["incidents"]] == [
        ("internal error", "0x133025", "ec")
    ]
    assert value["qemu_errors"] == [{"line": 1, "words": None, "suberror": 1, "data": ["0x2", "0xec"]}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--bar", "4", "--width", "3"), "width 3: accesses are 1, 2, 4 or 8 bytes wide"),
        (("--bar", "4", "--offset", "2"), "offset 0x2: is not aligned to 4 bytes"),
        (("--bar", "4", "--offset", "zz"), "--offset 'zz': is not a number"),
        (("--bar", "0", "--route", "mmio"), "--route 'mmio' does not exist"),
        (("--bar", "0", "--route", "pio", "--width", "8"), "pio accesses are 1, 2 or 4 bytes wide"),
        (("--bar", "0", "--write", "0x100", "--width", "1"), "value 0x100: does not fit into 1 bytes"),
        (("--bar", "0", "--stall", "smap"), "stall 'smap': there is no model 'smap'"),
        ((), "route user: needs a BAR"),
    ],
)
def test_an_access_that_cannot_be_exits_2_before_anything_is_started(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    command = [sys.executable, "-m", "testbed", "mmio", "probe", "q35", *arguments]
    env = {**os.environ, "COLUMNS": "250"}
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert words in result.stderr
    assert "hint" in result.stderr or "does not fit" in words
    assert list(tmp_path.iterdir()) == []

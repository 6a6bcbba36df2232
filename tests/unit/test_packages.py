"""The host packages script: names, detection, and that it runs on a bare Python."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.host import packages
from testbed.host.host import dies_with_parent
from testbed.host.tools import find_tool, run_tool
from testbed.model.errors import BedError

SCRIPT = Path(packages.__file__)


def write_release(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "os-release"
    path.write_text(text)
    return packages.read_os_release(path)


@pytest.mark.parametrize(
    ("text", "tool"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "apt-get"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\n", "apt-get"),
        ("# remark\nID=fedora\n", "dnf"),
        ('ID="almalinux"\nID_LIKE="rhel centos fedora"\n', "dnf"),
        ("ID=manjaro\nID_LIKE=arch\n", "pacman"),
        ('ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', "zypper"),
        ("ID=nixos\n", None),
        ("", None),
    ],
)
def test_distribution_is_known_by_its_relatives(tmp_path: Path, text: str, tool: str | None) -> None:
    assert packages.package_tool(write_release(tmp_path, text)) == tool


def test_missing_os_release_is_an_unknown_distribution(tmp_path: Path) -> None:
    assert packages.read_os_release(tmp_path / "none") == {}


@pytest.mark.parametrize("tool", sorted(packages.INSTALL))
def test_every_need_has_a_package_everywhere(tool: str) -> None:
    command = packages.install_command(packages.NEEDS, tool)
    assert all(command)
    assert len(command) == len(set(command)), "each package once"


def test_install_line_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "read_os_release", lambda: {"ID": "debian", "VERSION_ID": "13"})
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    wanted = [need for need in packages.NEEDS if need.name in {"lspci", "setpci", "socat"}]
    line = packages.install_line(wanted)
    assert line.startswith("sudo apt-get update; sudo apt-get install ")
    assert line.endswith(" pciutils socat")


def test_install_line_says_where_names_were_never_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "read_os_release", lambda: {"ID": "fedora", "VERSION_ID": "41"})
    assert "untested" in packages.install_line(packages.NEEDS[:1])
    monkeypatch.setattr(packages, "read_os_release", lambda: {"ID": "nixos"})
    assert packages.install_line(packages.NEEDS[:1]).endswith("qemu-system-x86_64")


def test_missing_names_what_is_not_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "search_path", lambda: str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    (tmp_path / "socat").touch(mode=0o755)
    names = [need.name for need in packages.missing()]
    assert "qemu-system-x86_64" in names
    assert "static libc" in names
    assert "socat" not in names


def test_check_reports_and_install_gives_up_without_rights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "missing", lambda _: [packages.NEEDS[0]])
    monkeypatch.setattr(packages, "_privilege", lambda: None)
    monkeypatch.setattr(packages, "_run", lambda *_: pytest.fail("nothing may be started"))
    assert packages.main(["check"]) == 1
    assert packages.main(["install"]) == 1
    assert "missing qemu-system-x86_64" in capsys.readouterr().out


def test_install_fetches_lists_first_and_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    answers = iter([[packages.NEEDS[0]], []])
    monkeypatch.setattr(packages, "read_os_release", lambda: {"ID": "debian", "VERSION_ID": "12"})
    monkeypatch.setattr(packages, "missing", lambda _: next(answers))
    monkeypatch.setattr(packages, "_privilege", lambda: ["sudo", "-n"])

    def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(argv)
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    assert packages.main(["install"]) == 0
    start = ["sudo", "-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    assert [argv[:6] for argv in started] == [[*start, "update"], [*start, "install"]]
    assert "--no-install-recommends" in started[1]


def test_complete_host_is_left_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(packages, "missing", lambda _: [])
    assert packages.main(["install"]) == 0
    assert capsys.readouterr().out == "host packages: complete\n"


def test_what_only_tests_use_is_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "search_path", lambda: str(tmp_path))
    assert packages.main(["check", "tests"]) == 1
    assert "chromium" in capsys.readouterr().out
    assert packages.main(["check"]) == 1
    assert "chromium" not in capsys.readouterr().out
    for program in ("google-chrome", "mkfs.xfs", "mkfs.btrfs"):
        (tmp_path / program).touch(mode=0o755)
    assert packages.main(["check", "tests"]) == 0


def test_what_only_the_kvm_lane_uses_is_asked_for_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packages, "search_path", lambda: str(tmp_path))
    assert packages.main(["check", "kvm"]) == 1
    assert "missing mmdebstrap, sqfstar" in capsys.readouterr().out
    for program in ("mmdebstrap", "sqfstar"):
        (tmp_path / program).touch(mode=0o755)
    assert packages.main(["check", "kvm"]) == 0


def test_wrong_usage() -> None:
    assert packages.main(["nonsense"]) == 2
    assert packages.main(["check", "twice"]) == 2
    assert packages.main(["check", "kvm", "tests"]) == 2


def test_script_runs_without_site_packages(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1)
    assert done.stdout.startswith("host packages: ")
    assert done.stderr == ""


def test_tool_output_and_input(tmp_path: Path) -> None:
    assert run_tool(["cat"], doing="echoing", stdin=b"x") == b"x"
    assert run_tool(["cat"], doing="echoing") == b""
    assert run_tool(["pwd"], doing="asking", cwd=tmp_path).decode().strip() == str(tmp_path)
    assert run_tool(["sh", "-c", "echo $LC_ALL $X"], doing="asking", env={"X": "y"}) == b"C y\n"


def test_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.host.tools.find_program", lambda _: None)
    with pytest.raises(BedError, match="running socat") as caught:
        find_tool("socat")
    assert caught.value.hint is not None
    assert "socat" in caught.value.hint


def test_a_host_without_setpriv_is_told_which_package_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.host.tools.find_program", lambda _: None)
    with pytest.raises(BedError, match="setpriv") as caught:
        dies_with_parent(["qemu-system-x86_64"])
    assert "util-linux" in (caught.value.hint or "")


def test_failing_tool_is_quoted() -> None:
    with pytest.raises(BedError, match=r"trying a: sh ended with status 3: gone wrong"):
        run_tool(["sh", "-c", "echo gone wrong >&2; exit 3"], doing="trying a")
    with pytest.raises(BedError, match=r"trying b: sh ended with signal 9: it printed nothing"):
        run_tool(["sh", "-c", "kill -9 $$"], doing="trying b")


@pytest.mark.skipif(not packages.find_program("setpriv"), reason="this host has no setpriv")
def test_tool_dies_with_the_bed(tmp_path: Path) -> None:
    """Kill a bed that runs a tool; the tool holds a fifo open, which ends when it is gone."""
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    code = f"from testbed.host.tools import run_tool; run_tool(['sh', '-c', 'exec sleep 99 > {fifo}'], doing='x')"
    with subprocess.Popen([sys.executable, "-c", code], cwd=SCRIPT.parents[2]) as bed, fifo.open("rb") as alive:
        bed.kill()
        ended, _, _ = select.select([alive], [], [], 30)
        assert ended
        assert alive.read() == b""

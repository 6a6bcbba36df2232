"""reproduce.sh: a script bash takes, with every odd path quoted and every disk and socket in its own folder."""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from testbed.host.accel import Accel
from testbed.host.firmware import Firmware
from testbed.host.qemu_prefix import Prefix
from testbed.image.disk.disk_name import DiskName
from testbed.image.disk.opened import opened
from testbed.machine.argv import Boot, Channels, blockdev, qemu_argv
from testbed.machine.journal import Step
from testbed.machine.launch import Machine
from testbed.machine.reproduce import INITRAMFS, KERNEL, reproduction
from testbed.machine.script_command import FIRMWARE
from testbed.machine.system_disk import SystemDisk
from testbed.model.spec import Disk, MachineSpec
from tests.disks import qcow2_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from testbed.host.qemu import Qemu

ODD_FOLDERS = ["plain", "two words", "it's", 'a"quote', "größe", "$HOME `id`", "back\\slash", "a;b&c", "x}y{z"]
CMDLINE = "console=ttyS0 dyndbg=\"file a.c +p\" x='y' $HOME"


def machine(
    qemu: Qemu,
    folder: Path,
    firmware: Firmware | None = None,
    *,
    system: SystemDisk | None = None,
    by_loader: bool = False,
) -> Machine:
    """Return a machine that was never started: what the script is made of, and nothing else."""
    spec = MachineSpec.model_validate(
        {
            "machine_type": "q35",
            "disks": [{"id": "disk1", "size_mib": 8}],
            "devices": [{"driver": "virtio-blk-pci", "id": "dev1", "properties": {"drive": "disk1"}}],
        }
    )
    image = folder / "image"
    boot = Boot(
        kernel=None if by_loader else image / "vmlinux",
        initramfs=None if by_loader else image / "initramfs",
        cmdline=CMDLINE,
        firmware=firmware,
        system=system,
    )
    channels = Channels(qmp=f"{folder}/1.qmp", console=f"{folder}/2.console", shell=f"{folder}/3.shell")
    accel = Accel(name="tcg", reason="test")
    rundir = folder / "run"
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(opened(system.name)) if system else None
        argv = qemu_argv(spec=spec, boot=boot, channels=channels, qemu=qemu, accel=accel, folder=rundir, system=disk)
    absent: Any = None
    return Machine(
        spec=spec,
        boot=boot,
        qemu=qemu,
        accel=accel,
        rundir=rundir,
        argv=argv,
        host=absent,
        process=absent,
        journal=absent,
        watch=absent,
        qmp=absent,
        console=absent,
        shell=absent,
    )


def add_disk(rundir: Path) -> Step:
    command = {"execute": "blockdev-add", "arguments": blockdev(Disk(id="hot1"), rundir)}
    return Step(kind="qmp", text=json.dumps(command))


def run_up_to_start(script: str, folder: Path) -> tuple[list[str], dict[str, int]]:
    """Run the script to where QEMU starts; return QEMU's arguments (WORK for `$work`) and the sizes of its files."""
    fake = folder / "fake bin"
    fake.mkdir()
    (fake / "socat").write_text("#!/bin/sh\nexit 0\n")
    (fake / "qemu").write_text('#!/bin/sh\nprintf \'%s\\0\' "$@" >"$OUT"\n')
    for program in fake.iterdir():
        program.chmod(0o755)
    for file in ("vmlinux", "initramfs"):
        (folder / "image").mkdir(exist_ok=True)
        (folder / "image" / file).touch()
    (folder / "tmp").mkdir()
    head, separator, _ = script.partition('pids="$pids $!"\n')
    assert separator
    text = f'{head}wait $!\necho "$work"\ncd "$work"\nstat -c "%n %s" *\n'
    environment = {"PATH": f"{fake}:/usr/bin:/bin", "OUT": str(folder / "out"), "TMPDIR": str(folder / "tmp")}
    environment["QEMU"] = str(fake / "qemu")
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True, check=True, cwd=folder)
    assert done.stderr == ""
    work, *files = done.stdout.splitlines()
    words = (folder / "out").read_bytes().decode().replace(work, "WORK").split("\0")[:-1]
    return words, {name: int(size) for name, size in map(str.split, files)}


@pytest.mark.parametrize("odd", ODD_FOLDERS)
def test_bash_takes_the_script_whatever_the_folders_are_called(
    tmp_path: Path, paper_qemu: Callable[..., Qemu], odd: str
) -> None:
    folder = tmp_path / odd
    qemu = paper_qemu(path=str(folder / "qemu"))
    steps = [
        Step(kind="say", text='stimulus: it\'s "that" $HOME'),
        Step(kind="guest", text="echo 'a' \"b\" $c; true"),
        add_disk(folder / "run"),
    ]
    script = reproduction(machine(qemu, folder), steps, title=f"unplug {odd}: bad, it's ignored")
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("odd", ODD_FOLDERS)
def test_qemu_gets_the_same_command_with_its_files_in_the_scripts_folder(
    tmp_path: Path, paper_qemu: Callable[..., Qemu], odd: str
) -> None:
    folder = tmp_path / odd
    folder.mkdir()
    subject = machine(paper_qemu(), folder)
    words, files = run_up_to_start(reproduction(subject, [], title="t"), folder)
    sockets = {
        f"socket,id={name},path={folder}/{n}.{name}": f"socket,id={name},path=WORK/{name},server=on,wait=off"
        for n, name in enumerate(("qmp", "console", "shell"), 1)
    }
    rundir = json.dumps(str(subject.rundir))[1:-1]
    wanted = [sockets.get(word, word).replace(rundir, "WORK") for word in subject.argv[1:]]
    assert words == wanted
    assert files == {"disk1.raw": 8 << 20}
    assert words[words.index("-append") + 1] == CMDLINE
    assert json.loads(words[words.index("-blockdev") + 1])["file"]["filename"] == "WORK/disk1.raw"


@pytest.mark.parametrize("odd", ODD_FOLDERS)
def test_a_uefi_machine_gets_variables_of_its_own_each_time(
    tmp_path: Path, paper_qemu: Callable[..., Qemu], odd: str
) -> None:
    folder = tmp_path / odd
    folder.mkdir()
    firmware = Firmware(code=folder / "code.fd", variables=folder / "variables.fd")
    firmware.code.write_bytes(b"code")
    firmware.variables.write_bytes(b"first variables")
    firmware.variables.chmod(0o444)
    script = reproduction(machine(paper_qemu(), folder, firmware), [], title="t")
    words, files = run_up_to_start(script, folder)
    nodes = [json.loads(word) for before, word in pairwise(words) if before == "-blockdev"]
    flash = {node["node-name"]: node["file"]["filename"] for node in nodes if node["node-name"] != "disk1"}
    assert flash == {"firmware-code": "WORK/firmware-code", "firmware-variables": "WORK/firmware-variables"}
    assert files == {"disk1.raw": 8 << 20, "firmware-code": len(b"code"), "firmware-variables": len(b"first variables")}
    assert "file,id=firmware-log,path=WORK/firmware.log" in words


@pytest.mark.parametrize("odd", ODD_FOLDERS)
def test_the_other_qemu_and_image_are_the_ones_of_the_run_by_default(
    tmp_path: Path, paper_qemu: Callable[..., Qemu], odd: str
) -> None:
    qemu = paper_qemu(path=f"/opt/{odd}/qemu")
    subject = machine(qemu, tmp_path / odd)
    head = reproduction(subject, [], title="t").partition("for program")[0]
    text = f'{head}\nprintf "%s\\0" "$QEMU" "$KERNEL" "$INITRAMFS"'
    done = subprocess.run(
        ["bash", "-c", text], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\0")[:3] == [str(qemu.path), str(subject.boot.kernel), str(subject.boot.initramfs)]


@pytest.mark.parametrize("odd", ODD_FOLDERS)
def test_an_unpacked_qemu_is_started_with_its_data_and_another_without_them(
    tmp_path: Path, paper_qemu: Callable[..., Qemu], odd: str
) -> None:
    root = tmp_path / odd / "prefix"
    (root / "usr/share/qemu").mkdir(parents=True)
    qemu = replace(paper_qemu(path=str(root / "usr/bin/qemu")), prefix=Prefix(root=root))
    head = reproduction(machine(qemu, tmp_path / odd), [], title="t").partition("for program")[0]
    for named, words in (("", list(qemu.command)), ("/opt/other", ["/opt/other"])):
        done = subprocess.run(
            ["bash", "-c", f'{head}\nprintf "%s\\0" "${{qemu[@]}}"'],
            env={"PATH": "/usr/bin:/bin", "QEMU": named},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split("\0")[:-1] == words
    assert qemu.command[1:] == ("-L", str(root / "usr/share/qemu"))


@pytest.mark.parametrize("odd", ODD_FOLDERS)
def test_a_disk_that_was_added_is_made_before_it_is_added(
    tmp_path: Path, paper_qemu: Callable[..., Qemu], odd: str
) -> None:
    subject = machine(paper_qemu(), tmp_path / odd)
    lines = reproduction(subject, [add_disk(subject.rundir)], title="t").splitlines()
    made = [line for line in lines if line.startswith("truncate ") and "hot1" in line]
    added = [line for line in lines if "blockdev-add" in line]
    assert made == ['truncate -s 16M "$work"/hot1.raw']
    assert len(added) == 1
    assert lines.index(made[0]) < lines.index(added[0])
    shown = subprocess.run(
        ["bash", "-c", f'qmp() {{ printf %s "$1"; }}; work=WORK; {added[0]}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout)["arguments"]["file"]["filename"] == "WORK/hot1.raw"


def bundled(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Unpack a bundle whose script says what it would start, and run it; the programs are stand-ins."""
    bundle = folder / "two words"
    for name in (KERNEL, INITRAMFS, f"{FIRMWARE}/bios.bin"):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).touch()
    (folder / "bin").mkdir()
    for name in ("qemu-system-x86_64", "socat"):
        (folder / "bin" / name).symlink_to("/bin/true")
    head = script.partition("work=$(mktemp")[0]
    shown = "".join(f'printf "%s\\n" "${each}"; ' for each in ("KERNEL", "INITRAMFS", "{qemu[@]}"))
    (bundle / "reproduce.sh").write_text(head + shown)
    environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", **environment}
    command = ["bash", str(bundle / "reproduce.sh")]
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)


def test_in_a_bundle_its_own_image_and_firmware_are_taken(tmp_path: Path, paper_qemu: Callable[..., Qemu]) -> None:
    script = reproduction(machine(paper_qemu(path="/nonexistent/qemu"), tmp_path / "run"), [], title="t")
    done = bundled(tmp_path, script)
    bundle = tmp_path / "two words"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{bundle}/{KERNEL}",
        f"{bundle}/{INITRAMFS}",
        "qemu-system-x86_64",
        "-L",
        f"{bundle}/{FIRMWARE}",
    ]


def test_in_a_bundle_the_qemu_of_the_run_is_taken_where_it_is_there(
    tmp_path: Path, paper_qemu: Callable[..., Qemu]
) -> None:
    script = reproduction(machine(paper_qemu(path="/bin/true"), tmp_path / "run"), [], title="t")
    assert bundled(tmp_path, script).stdout.splitlines()[2:] == ["/bin/true"]


def test_in_a_bundle_other_files_can_be_named(tmp_path: Path, paper_qemu: Callable[..., Qemu]) -> None:
    script = reproduction(machine(paper_qemu(path="/nonexistent/qemu"), tmp_path / "run"), [], title="t")
    done = bundled(tmp_path, script, QEMU="/bin/cat", KERNEL="/etc/passwd", INITRAMFS="/etc/group")
    assert done.stdout.splitlines() == ["/etc/passwd", "/etc/group", "/bin/cat"]


def test_steps_come_in_order_and_cont_only_once(tmp_path: Path, paper_qemu: Callable[..., Qemu]) -> None:
    steps = [
        Step(kind="qmp", text='{"execute": "cont"}'),
        Step(kind="guest", text="modprobe virtio_blk"),
        Step(kind="say", text="stimulus"),
        Step(kind="qmp", text='{"execute": "device_del", "arguments": {"id": "dev1"}}'),
    ]
    script = reproduction(machine(paper_qemu(), tmp_path), steps, title="t")
    places = [script.index(words) for words in ("guest 'modprobe virtio_blk'", "--- stimulus", "device_del")]
    assert places == sorted(places)
    assert script.count('"cont"') == 1


def test_each_boot_after_the_first_is_waited_for_by_its_number(tmp_path: Path, paper_qemu: Callable[..., Qemu]) -> None:
    reset = Step(kind="qmp", text='{"execute": "system_reset"}')
    boot, look = Step(kind="boot", text=""), Step(kind="guest", text="lspci")
    script = reproduction(machine(paper_qemu(), tmp_path), [reset, boot, look, reset, boot], title="t")
    assert [line for line in script.splitlines() if line.startswith("booted ")] == ["booted 1", "booted 2", "booted 3"]
    assert (
        script.index("system_reset") < script.index("booted 2") < script.index("guest lspci") < script.index("booted 3")
    )


def test_a_guest_is_woken_only_once_it_sleeps(tmp_path: Path, paper_qemu: Callable[..., Qemu]) -> None:
    wake, sleep = Step(kind="qmp", text='{"execute": "system_wakeup"}'), Step(kind="asleep", text="")
    script = reproduction(machine(paper_qemu(), tmp_path), [sleep, wake, sleep, wake], title="t")
    steps = [line for line in script.splitlines() if line.startswith("asleep ") or "system_wakeup" in line]
    assert [line.split("'")[0] for line in steps] == ["asleep 1", "qmp ", "asleep 2", "qmp "]


@pytest.mark.parametrize("missing", ["QEMU", "KERNEL", "INITRAMFS"])
def test_a_missing_file_is_named_before_anything_starts(
    tmp_path: Path, paper_qemu: Callable[..., Qemu], missing: str
) -> None:
    script = reproduction(machine(paper_qemu(), tmp_path), [], title="t")
    present = {"QEMU": "/bin/true", "KERNEL": "/bin/true", "INITRAMFS": "/bin/true"}
    there = {**present, missing: str(tmp_path / "nowhere")}
    (tmp_path / "socat").symlink_to("/bin/true")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path / "none"), **there}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert str(tmp_path / "nowhere") in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["disk.qcow2", "odd, 'disk' $x.qcow2"])
def test_a_disk_whose_user_space_runs_is_under_an_overlay_of_the_script_s_own(
    tmp_path: Path, paper_qemu: Callable[..., Qemu], name: str
) -> None:
    (tmp_path / name).write_bytes(qcow2_header(size=1 << 20))
    system = SystemDisk(name=DiskName(file=tmp_path / name), size=1 << 20, digest="")
    subject = machine(paper_qemu(), tmp_path, system=system)
    assert "-add-fd" in subject.argv
    words, _ = run_up_to_start(reproduction(subject, [], title="t"), tmp_path)
    file = str(tmp_path / name).replace(",", ",,")
    assert words[-2:] == ["-drive", f"if=none,id=system,snapshot=on,format=qcow2,file={file}"]
    assert "-add-fd" not in words
    drives = [json.loads(word).get("drive") for option, word in pairwise(words) if option == "-device"]
    assert drives == ["disk1", "system"]
    nodes = [json.loads(word)["node-name"] for option, word in pairwise(words) if option == "-blockdev"]
    assert nodes == ["disk1"]


def test_a_guest_with_its_console_alone_is_repeated_by_a_person(
    tmp_path: Path, paper_qemu: Callable[..., Qemu]
) -> None:
    folder = tmp_path / "two words"
    folder.mkdir()
    disk = folder / "a,b.raw"
    disk.write_bytes(bytes(1 << 20))
    system = SystemDisk(name=DiskName(file=disk), size=1 << 20, digest="d")
    subject = machine(paper_qemu(), folder, system=system, by_loader=True)
    steps = [
        Step(kind="say", text="log in as root"),
        Step(kind="guest", text="echo 'a' \"b\" $c\ntrue"),
        add_disk(subject.rundir),
        Step(kind="qmp", text='{"execute": "cont"}'),
    ]
    script = folder / "reproduce.sh"
    script.write_text(reproduction(subject, steps, title="unplug: bad, it's ignored"))
    fake = folder / "qemu"
    fake.write_text('#!/bin/sh\nprintf \'%s\\0\' "$@" >"$OUT"\nls "${TMPDIR}"/*\n')
    fake.chmod(0o755)
    (folder / "tmp").mkdir()
    environment = {
        "PATH": "/usr/bin:/bin",
        "OUT": str(folder / "out"),
        "TMPDIR": str(folder / "tmp"),
        "QEMU": str(fake),
    }
    done = subprocess.run(
        ["bash", script], env=environment, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    assert done.stderr == ""
    said = done.stdout
    assert "--- log in as root\nguest > echo 'a' \"b\" $c\n      > true\nqmp   > " in said
    assert "blockdev-add" in said
    assert '"cont"' not in said
    assert {"disk1.raw", "hot1.raw", "tell"} <= set(said.split())
    words = (folder / "out").read_bytes().decode().split("\0")[:-1]
    assert words[words.index("-chardev") + 1].startswith("socket,id=qmp,")
    assert "stdio,id=console,mux=on,signal=off" in words
    assert "-S" not in words
    assert f"if=none,id=system,snapshot=on,format=raw,file={str(disk).replace(',', ',,')}" in words
    assert not [word for word in words if "fdset" in word or str(subject.rundir) in word]
    assert not list((folder / "tmp").iterdir()), "its files go when it ends"

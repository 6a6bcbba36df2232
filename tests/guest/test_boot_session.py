"""`testbed boot`: the same verbs from a script and at a prompt, and nothing left however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pexpect
import pytest

from testbed.host.qemu import find_qemu
from testbed.model.device_kind import KINDS
from tests.qemu.conftest import processes_naming
from tests.signals import heed_signals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = (sys.executable, "-m", "testbed", "boot")
BOOT = (*COMMAND, "q35")
CTRL_C, CTRL_D, CTRL_BRACKET = "\x03", "\x04", "\x1d"


def scripted(
    folder: Path, *lines: str, machine: str = "q35", options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    text = "".join(f"{line}\n" for line in lines)
    command = [*COMMAND, machine, *options]
    result = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, check=False)
    assert processes_naming(folder) == []
    return result


def said_after(output: str, line: str, *, nth: int = 1, name: str = "q35") -> str:
    """Return what was said between a line of the script, for the nth time, and the next one."""
    rest = output.split(f"{name}> {line}\n", nth)[nth]
    return re.split(rf"^{name}> ", rest, maxsplit=1, flags=re.MULTILINE)[0].rstrip("\n")


@pytest.mark.seconds(10)
def test_a_script_unplugs_plugs_and_looks_and_the_rundir_repeats_it(tmp_path: Path) -> None:
    result = scripted(
        tmp_path, "devices", "unplug dev1", "plug virtio-blk", "plug virtio-net on rp4", "sh ls /sys/block", "devices",
        "query-status", "qmp qom-get path=/machine/peripheral/rp1 property=type", '{"execute": "query-version"}',
        "inject rp1 COMP_TIME", "log 400", "events", "unplug hot1", "sh touch /tmp/here",
    )  # fmt: skip
    out = result.stdout
    assert result.returncode == 0, result.stderr
    assert re.search(r"^dev1 +virtio-blk-pci +rp1 +0000:01:00\.0$", said_after(out, "devices"), re.MULTILINE)
    assert "dev1: deleted" in said_after(out, "unplug dev1")
    assert "hot1 on rp2: present" in said_after(out, "plug virtio-blk")
    assert "hot2 on rp4: present" in said_after(out, "plug virtio-net on rp4")
    assert said_after(out, "sh ls /sys/block").endswith("vda\nstatus 0")
    last = out.rpartition("q35> devices\n")[2]
    assert "dev1" not in last.partition("q35> ")[0]
    assert re.search(r"^hot1 +virtio-blk-pci +rp2 ", last, re.MULTILINE)
    assert '"status": "running"' in said_after(out, "query-status")
    assert "pcie-root-port" in said_after(out, "qmp qom-get path=/machine/peripheral/rp1 property=type")
    assert '"qemu"' in said_after(out, '{"execute": "query-version"}')
    assert "into rp1: injected by qemu" in said_after(out, "inject rp1 COMP_TIME")
    assert "AER: device recovery" in said_after(out, "log 400")
    assert 'DEVICE_DELETED {"device": "dev1"' in said_after(out, "events")
    assert 'event| DEVICE_DELETED {"device": "dev1"' in out
    (rundir,) = (tmp_path / "testbed-runs").iterdir()
    assert f"logs: {rundir}" in out
    script = (rundir / "reproduce.sh").read_text()
    assert "guest 'touch /tmp/here'" in script
    assert "device_del" in script


@pytest.mark.seconds(30)
def test_every_short_name_can_be_plugged_with_what_belongs_to_it(tmp_path: Path) -> None:
    drivers = find_qemu().drivers
    names = [kind.name for kind in KINDS if kind.driver in drivers]
    options = ("-p", "devices=", "-p", f"ports={len(names) + 1}")
    out = scripted(
        tmp_path, *(f"plug {name}" for name in names), "plug rtl8139", "sh ls /sys/block", options=options
    ).stdout
    for n, name in enumerate([*names, "rtl8139"], 1):
        assert f"hot{n} on rp{n}: present" in said_after(out, f"plug {name}")
    blocks = said_after(out, "sh ls /sys/block").split()
    assert {"vda", "sda"} <= set(blocks)
    assert any(block.startswith("nvme") for block in blocks)


@pytest.mark.seconds(10)
def test_sizes_and_switches_are_what_qemu_wants_of_them(tmp_path: Path) -> None:
    backend = "object-add qom-type=memory-backend-ram id=m size=16M prealloc=on"
    disk = "plug virtio-blk logical_block_size=4K physical_block_size=4K ioeventfd=false disable-legacy=true"
    card = "device_add driver=e1000e id=card bus=rp4 multifunction=on"
    looks = ["m property=size", "m property=prealloc"]
    out = scripted(
        tmp_path, backend, *(f"qmp qom-get path=/objects/{look}" for look in looks), disk, card,
        "sh cat /sys/block/vdb/queue/logical_block_size", "set_link name=card up=maybe", "devices",
    ).stdout  # fmt: skip
    assert said_after(out, f"qmp qom-get path=/objects/{looks[0]}") == str(16 << 20)
    assert said_after(out, f"qmp qom-get path=/objects/{looks[1]}") == "true"
    assert "hot1 on rp2: present" in said_after(out, disk)
    assert re.search("^4096$", said_after(out, "sh cat /sys/block/vdb/queue/logical_block_size"), re.MULTILINE)
    assert "up: got 'maybe'" in said_after(out, "set_link name=card up=maybe")
    assert re.search("^card +e1000e +rp4 ", said_after(out, "devices"), re.MULTILINE)


#: a disk with an id of its own, what is no PCI function, a machine that is stopped, and one that is reset
ONE_LIFE = (
    "plug virtio-blk on rp2 id=foo", "plug nvme on rp3 id=foo", "plug virtio-blk on rp3 num-queues=many", "unplug foo",
    "plug virtio-blk on rp2 id=foo", "plug xhci on rp3 id=usb", "plug usb-tablet on usb.0 id=tablet", "unplug tablet",
    "plug virtio-scsi on rp4 id=hba", "plug scsi-hd on hba.0 id=unit scsi-id=3", "unplug unit",
    "stop", "sh echo never", "unplug foo", "wait 0.1", "cont", "wait DEVICE_DELETED device=foo",
    "wait STOP within 0.5", "wait NO_SUCH", "sh touch /tmp/here", "system_reset", "sh ls /tmp/here",
    "sh ls /sys/bus/pci/drivers/virtio-pci", "wait 0.5",
)  # fmt: skip


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    return scripted(tmp_path_factory.mktemp("life"), *ONE_LIFE, options=("--cmdline", "quiet"))


@pytest.mark.xdist_group("life")
@pytest.mark.seconds(20)
def test_an_id_is_chosen_once_and_its_disk_comes_back_with_it(life: subprocess.CompletedProcess[str]) -> None:
    assert "foo on rp2: present" in said_after(life.stdout, "plug virtio-blk on rp2 id=foo")
    assert "there is already a device foo" in said_after(life.stdout, "plug nvme on rp3 id=foo")
    assert "hot1 on rp3: refused" in said_after(life.stdout, "plug virtio-blk on rp3 num-queues=many")
    assert "foo: deleted" in said_after(life.stdout, "unplug foo")
    assert "foo on rp2: present" in said_after(life.stdout, "plug virtio-blk on rp2 id=foo", nth=2)
    assert life.returncode == 2, life.stderr


@pytest.mark.xdist_group("life")
@pytest.mark.parametrize(
    ("plugged", "unplugged", "bus", "name"),
    [
        ("plug usb-tablet on usb.0 id=tablet", "unplug tablet", "usb", "1-1, 1-1:1.0"),
        ("plug scsi-hd on hba.0 id=unit scsi-id=3", "unplug unit", "scsi", "0:0:3:0"),
    ],
)
def test_what_is_no_pci_function_is_seen_to_come_and_to_go(
    life: subprocess.CompletedProcess[str], plugged: str, unplugged: str, bus: str, name: str
) -> None:
    assert f"guest sysfs, bus {bus}: {name}" in said_after(life.stdout, plugged)
    gone = said_after(life.stdout, unplugged)
    assert ": deleted" in gone
    assert re.search(rf"guest sysfs, bus {bus}: {name}.* gone after", gone)
    assert "QMP event: DEVICE_DELETED after" in gone


@pytest.mark.xdist_group("life")
def test_a_stopped_machine_says_so_at_once_and_what_was_asked_is_done_later(
    life: subprocess.CompletedProcess[str],
) -> None:
    assert "sh: the machine is stopped (paused)" in said_after(life.stdout, "sh echo never")
    assert "hint: cont" in said_after(life.stdout, "sh echo never")
    assert "QEMU was asked; not watched: the machine is stopped" in said_after(life.stdout, "unplug foo", nth=2)
    assert "0.1 s have passed on the host" in said_after(life.stdout, "wait 0.1")
    assert "has come" in said_after(life.stdout, "wait DEVICE_DELETED device=foo")
    assert "STOP: none within 0.5 s" in said_after(life.stdout, "wait STOP within 0.5")
    assert "no event NO_SUCH" in said_after(life.stdout, "wait NO_SUCH")


@pytest.mark.xdist_group("life")
def test_a_reset_machine_boots_anew_and_goes_on(life: subprocess.CompletedProcess[str]) -> None:
    assert "status 0" in said_after(life.stdout, "sh touch /tmp/here")
    assert "is up after" in said_after(life.stdout, "system_reset")
    assert "No such file" in said_after(life.stdout, "sh ls /tmp/here")
    # its drivers are loaded anew
    assert "0000:01:00.0" in said_after(life.stdout, "sh ls /sys/bus/pci/drivers/virtio-pci")
    assert "0.5 s have passed in the guest" in said_after(life.stdout, "wait 0.5")


ROOM = """description: q35 with room for memory and CPUs
parameters: {}
---
machine_type: q35
options: {smp.maxcpus: 2, memory.slots: 2, memory.max-size: 1G}
start: bzimage
"""
SLEEP = "sh echo deep > /sys/power/mem_sleep && echo mem > /sys/power/state"


@pytest.mark.seconds(15)
def test_memory_and_cpus_come_and_go_a_guest_sleeps_and_the_first_failure_ends_a_script(tmp_path: Path) -> None:
    (tmp_path / "room.yaml.j2").write_text(ROOM)
    cpu = "plug qemu64-x86_64-cpu id=cpu1 socket-id=0 core-id=1 thread-id=0"
    result = scripted(
        tmp_path, "object-add qom-type=memory-backend-ram id=m size=128M", "plug pc-dimm memdev=m id=dimm",
        "unplug dimm", cpu, "unplug cpu1", "sh ls /sys/bus/pci/drivers",
        SLEEP, "sh true", "sh echo never",
        machine="./room.yaml.j2", options=("--no-drivers", "-e", "--cmdline", "quiet"),
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    said = {line: said_after(result.stdout, line, name="room") for line in (cpu, "unplug cpu1", "unplug dimm")}
    assert "guest sysfs, bus cpu: cpu1 there" in said[cpu]
    assert "cpu1: deleted" in said["unplug cpu1"]
    assert "dimm: deleted" in said["unplug dimm"]
    assert re.search("guest sysfs, bus memory: memory[0-9]+ gone", said["unplug dimm"])
    assert "virtio-pci" not in said_after(result.stdout, "sh ls /sys/bus/pci/drivers", name="room")
    assert "the guest has gone to sleep; system_wakeup" in said_after(result.stdout, SLEEP, name="room")
    assert "sh: the machine is stopped (suspended)" in said_after(result.stdout, "sh true", name="room")
    assert "never" not in result.stdout


@pytest.mark.seconds(8)
def test_a_guest_that_was_sent_to_sleep_is_woken_and_answers(tmp_path: Path) -> None:
    options = ("-p", "start=bzimage", "--cmdline", "quiet")
    result = scripted(tmp_path, SLEEP, "qmp system_wakeup", "sh echo slept well", options=options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "awake: " in said_after(result.stdout, "qmp system_wakeup")
    assert "slept well" in said_after(result.stdout, "sh echo slept well")


#: what would turn the terminal red, and name its window
SAID = r"sh printf '\033[31mred\007\r\n' | tee /dev/ttyS0"
TITLED = r"sh printf '\033]0;title\007\n' > /dev/kmsg"


@pytest.mark.seconds(10)
def test_mistakes_are_told_and_the_session_goes_on(tmp_path: Path) -> None:
    result = scripted(
        tmp_path, "# a comment", "", "unplgu dev1", "unplug", "unplug dev9", "plug", "plug virtio-blk-pic",
        "plug e1000 on", "plug e1000 on nowhere", "plug e1000 colour=red", "qmp", "qmp query-pci nonsense",
        '{"execute": 1}', "{", "log x", "sh", "sh 'echo", "inject rp1", "inject rp1 NO_SUCH", "console",
        "device_del id=dev9", "sh echo still here", SAID, TITLED, "log 3", "sh sleep 0.2",
    )  # fmt: skip
    out = result.stdout
    assert result.returncode == 2, result.stderr
    assert said_after(out, "# a comment") == ""
    assert "did you mean unplug?" in said_after(out, "unplgu dev1")
    assert "wanted unplug ID" in said_after(out, "unplug")
    assert "there are: dev1, rp1" in said_after(out, "unplug dev9")
    assert "wanted plug DEVICE" in said_after(out, "plug")
    assert "did you mean virtio-blk-pci?" in said_after(out, "plug virtio-blk-pic")
    assert "wanted plug DEVICE" in said_after(out, "plug e1000 on")
    assert "Bus 'nowhere' not found" in said_after(out, "plug e1000 on nowhere")
    assert "property 'colour' does not exist" in said_after(out, "plug e1000 colour=red")
    assert "'nonsense' is not key=value" in said_after(out, "qmp query-pci nonsense")
    assert "not a number of lines" in said_after(out, "log x")
    assert "no command" in said_after(out, "sh")
    assert "wanted inject ID ERROR" in said_after(out, "inject rp1")
    assert "NO_SUCH" in said_after(out, "inject rp1 NO_SUCH")
    assert "needs a terminal" in said_after(out, "console")
    assert "Device 'dev9' not found" in said_after(out, "device_del id=dev9")
    assert said_after(out, "sh echo still here").startswith("still here\nstatus 0")
    # what the guest says cannot steer the terminal
    assert "\\x1b[31mred\\x07" in said_after(out, SAID)
    assert re.search(r"^console\| .*\\x1b\[31mred\\x07", out, re.MULTILINE)
    assert "\\x1b]0;title" in out
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", out)


@pytest.mark.seconds(10)
def test_after_a_panic_qmp_and_the_log_are_still_there(tmp_path: Path) -> None:
    result = scripted(
        tmp_path, "sh echo c > /proc/sysrq-trigger", "sh echo hello", "query-status", "log 5", "unplug dev1",
        options=("--cmdline", "panic_on_oops=1"),
    )  # fmt: skip
    out = result.stdout
    assert result.returncode == 1, result.stderr
    assert "the guest crashed (panic)" in out
    assert '"running": true' in out
    assert "kernel.log:" in said_after(out, "log 5")


@pytest.mark.extended
@pytest.mark.seconds(10)
def test_a_guest_that_panics_at_boot_leaves_its_machine_to_look_at(tmp_path: Path) -> None:
    options = ("--cmdline", "initcall_blacklist=populate_rootfs")
    result = scripted(tmp_path, "sh true", "query-status", "log 400", "unplug dev1", options=options)
    out = result.stdout
    assert result.returncode == 1, result.stderr
    assert "the guest crashed (panic)" in out
    assert "sh: no guest answers" in said_after(out, "sh true")
    assert '"running": true' in said_after(out, "query-status")
    assert "Kernel panic" in said_after(out, "log 400")
    assert "not watched: no guest answers" in said_after(out, "unplug dev1")


@pytest.mark.seconds(10)
def test_qemus_death_ends_the_session_with_its_words(tmp_path: Path) -> None:
    result = scripted(tmp_path, "stop", "qmp human-monitor-command command-line=quit", "devices")
    assert result.returncode == 128
    assert "QEMU ended while the machine ran (exit status 0)" in result.stderr
    assert "logs: " in result.stdout


class Prompt:
    """`testbed boot` at a terminal."""

    def __init__(self, folder: Path) -> None:
        # nobody answers the terminal's questions here
        plain = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.child = pexpect.spawn(
            BOOT[0],
            list(BOOT[1:]),
            cwd=folder,
            env=plain,
            encoding="utf-8",
            timeout=60,
            dimensions=(50, 150),
            preexec_fn=heed_signals,
        )
        self.folder = folder
        self.expect("q35>")

    def expect(self, pattern: str) -> None:
        self.child.expect(pattern)

    def type(self, text: str) -> None:
        self.child.send(text)

    def complete(self, text: str, rest: str) -> None:
        self.type(f"{text}\t")
        self.expect(rest)

    def end(self) -> int:
        """Wait for its end, see that nothing is left, and return the exit status."""
        self.expect("logs: ")
        self.child.expect(pexpect.EOF)
        self.child.close()
        assert processes_naming(self.folder) == []
        return self.child.exitstatus if self.child.exitstatus is not None else -1


@pytest.fixture
def prompt(tmp_path: Path) -> Iterator[Prompt]:
    at = Prompt(tmp_path)
    yield at
    at.child.close(force=True)


@pytest.mark.seconds(10)
def test_the_prompt_completes_verbs_commands_and_device_ids(prompt: Prompt) -> None:
    prompt.complete("unp", "lug")
    prompt.complete(" d", "ev1")
    prompt.type("\r")
    prompt.expect("dev1: deleted")
    prompt.expect("q35>")
    prompt.complete("query-mach", "ines")
    prompt.type("\r")
    prompt.expect("pc-q35")
    prompt.expect("q35>")
    prompt.type("plug virtio-blk on rp3\r")
    prompt.expect("hot1 on rp3: present")
    prompt.expect("q35>")
    prompt.complete("unplug h", "ot1")
    prompt.type("\r")
    prompt.expect("hot1: deleted")
    prompt.expect("q35>")
    prompt.type("quit\r")
    assert prompt.end() == 0


@pytest.mark.seconds(10)
def test_the_console_is_the_guests_until_ctrl_bracket(prompt: Prompt) -> None:
    prompt.type("console\r")
    prompt.expect("guest# ")
    prompt.type("echo $((6 * 7)) $(tty)\r")
    prompt.expect("42 /dev/ttyS0")
    prompt.type("echo slee''ps; sleep 1000\r")
    prompt.expect("sleeps")
    prompt.type(CTRL_C)
    prompt.expect("guest# ")
    prompt.type("stty size; printf '\\033[7mraw\\n'; echo said by the kernel > /dev/kmsg\r")
    prompt.expect("50 150")
    prompt.expect("\x1b\\[7mraw")
    prompt.expect("said by the kernel")
    prompt.type(CTRL_BRACKET)
    prompt.expect("left the console")
    prompt.expect("q35>")
    prompt.type("sh ps | grep -c '[s]h -i'\r")
    prompt.expect("status 1")
    prompt.type("console\r")
    prompt.expect("guest# ")
    prompt.type("exit\r")
    prompt.expect("left the console")
    prompt.type(CTRL_D)
    assert prompt.end() == 0


@pytest.mark.seconds(10)
def test_ctrl_c_ends_a_verb_and_drops_a_line_but_not_the_session(prompt: Prompt) -> None:
    prompt.type("sh echo begun > /dev/ttyS0; sleep 1000\r")
    prompt.expect(r"console\| begun")
    prompt.child.kill(signal.SIGINT)
    prompt.expect("interrupted")
    prompt.type(f"half a line{CTRL_C}")
    prompt.expect("q35>")
    prompt.type("sh ps | grep -c '[s]leep 1000'; echo there $((1 + 1))\r")
    prompt.expect("0\r\nthere 2")
    prompt.type(CTRL_D)
    assert prompt.end() == 0


@pytest.mark.extended
@pytest.mark.seconds(15)
def test_a_reset_that_is_given_up_leaves_a_machine_that_ends_at_the_guests_own(prompt: Prompt) -> None:
    prompt.type("system_reset\r")
    prompt.expect(r"event\| RESET")
    prompt.child.kill(signal.SIGINT)
    prompt.expect("interrupted")
    for _ in range(60):
        prompt.type("sh echo he''re\r")
        if prompt.child.expect(["here\r", "still booting"]) == 0:
            break
        prompt.type("wait 1\r")
        prompt.expect("passed on the host")
    prompt.type("sh echo b > /proc/sysrq-trigger\r")
    prompt.expect(r"the guest crashed \(reset\)")
    prompt.type(CTRL_D)
    assert prompt.end() == 0


@pytest.mark.seconds(10)
def test_sigterm_ends_the_machine(prompt: Prompt) -> None:
    prompt.child.kill(signal.SIGTERM)
    assert prompt.end() == 130


@pytest.mark.seconds(10)
@pytest.mark.parametrize("where", [pytest.param("prompt", marks=pytest.mark.extended), "console"])
def test_a_closed_terminal_ends_the_machine(prompt: Prompt, where: str) -> None:
    if where == "console":
        prompt.type("console\r")
        prompt.expect("guest# ")
    assert processes_naming(prompt.folder) != []
    vars(prompt.child)["ptyproc"].fileobj.close()
    assert prompt.child.wait() in (0, 130)
    assert processes_naming(prompt.folder) == []

"""Launching: what a machine is once it is there, what is left when it is not, and how its end is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbed.host.firmware import find_ovmf
from testbed.host.host import LocalHost
from testbed.host.qemu import find_qemu
from testbed.machine.argv import FIRMWARE_LOG, VARIABLES
from testbed.machine.device_properties import read_properties
from testbed.model.errors import (
    BedError,
    GuestCrashedError,
    InputError,
    LackingError,
    QemuCrashedError,
    QemuLostError,
    RefusedError,
)
from testbed.model.kernel_log import Crash
from testbed.model.spec import MachineSpec

from .conftest import RESET, LaunchMachine, processes_naming, says, small, tiny_boot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from testbed.host.qemu import Qemu
    from testbed.machine.argv import Boot
    from testbed.machine.launch import Machine


def cited(machine: Machine, reference: str) -> str:
    file, _, line = reference.rpartition(":")
    return (machine.rundir / file).read_text().split("\n")[int(line) - 1]


def with_disk(path: Path) -> MachineSpec:
    device = {"driver": "virtio-blk-pci", "id": "dev1", "properties": {"drive": "disk1"}}
    disk = {"id": "disk1", "path": str(path)}
    return MachineSpec.model_validate({"machine_type": "q35", "memory_mib": 128, "disks": [disk], "devices": [device]})


# ---- there ----


async def test_a_machine_is_paused_and_answers(launched: LaunchMachine) -> None:
    async with launched() as machine:
        status = await machine.qmp.execute("query-status")
        assert (status["status"], status["running"]) == ("prelaunch", False)
        assert processes_naming(machine.rundir) == [machine.process.pid]


async def test_the_devices_of_the_spec_are_in_the_machine(launched: LaunchMachine) -> None:
    spec = small(ports=3, devices=["virtio-blk", "e1000"])
    async with launched(spec) as machine:
        found = {each["name"] for each in await machine.qmp.execute("qom-list", {"path": "/machine/peripheral"})}
        assert {device.id for device in spec.devices} <= found
        assert (machine.rundir / "disk1.raw").stat().st_size == 16 << 20


async def test_devices_given_as_words_are_those_given_as_json(
    launched: LaunchMachine, qemu: Qemu, tmp_path: Path
) -> None:
    spec = small(ports=2, devices=["virtio-blk", "e1000"], port_properties={"hotplug": False, "x-speed": "5"})
    found = []
    for json_devices in (True, False):
        rundir = tmp_path / str(json_devices)
        async with launched(spec, qemu=replace(qemu, json_devices=json_devices), rundir=rundir) as machine:
            assert any(word.startswith("pcie-root-port,") for word in machine.argv) is not json_devices
            found.append({**await read_properties(machine), "mac": ""})
    as_json, as_words = ({name: value for name, value in each.items() if "mac" not in name} for each in found)
    assert as_json == as_words
    assert as_json["pcie-root-port.hotplug"] is False


async def test_a_running_guest_is_heard_on_its_console(launched: LaunchMachine, tmp_path: Path) -> None:
    async with launched(boot=tiny_boot(tmp_path, says("hello\r\nworld\r\n"))) as machine:
        await machine.qmp.execute("cont")
        assert (await machine.console.expect(r"w(\w+)d\r\n"))[1] == "orl"
        # what has been said is found again, and not looked for before the cursor
        assert await machine.console.expect("hello")
        assert (machine.rundir / "console.log").read_bytes() == b"hello\r\nworld\r\n"
        late = asyncio.create_task(machine.console.expect("hello", start=machine.console.position))
        await asyncio.sleep(0)
        assert not late.done()
        late.cancel()
        await asyncio.gather(late, return_exceptions=True)


async def test_sockets_lie_in_a_private_folder_and_are_gone_once_qemu_came(launched: LaunchMachine) -> None:
    async with LocalHost() as local:
        async with launched(host=local) as machine:
            (folder,) = {Path(word.rpartition("path=")[2]).parent for word in machine.argv if "path=" in word}
            assert folder.stat().st_mode & 0o007 == 0
            assert folder.stat().st_uid == os.geteuid()
            assert list(folder.glob("[0-9]*")) == []
        assert folder.is_dir()
    assert not folder.exists()


async def test_a_runtime_folder_that_is_only_a_name_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    async with LocalHost() as local:
        listener = await local.listen("x")
        assert Path(listener.address).is_socket()
        await listener.close()


async def test_the_rundir_tells_the_command_and_the_talk(launched: LaunchMachine) -> None:
    async with launched() as machine:
        await machine.qmp.execute("query-name")
        assert json.loads((machine.rundir / "argv.json").read_text()) == list(machine.argv)
        assert json.loads(cited(machine, machine.qmp.last_reply))["return"] == {"name": "testbed"}
    assert (machine.rundir / "qemu.log").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a machine a user of its own")
async def test_a_machine_starts_where_an_earlier_try_has_left_its_files(
    launched: LaunchMachine, boot: Boot, tmp_path: Path
) -> None:
    """Another program's QEMU ran as another user: what it left there cannot be written by this one."""
    try:
        firmware = find_ovmf("q35")
    except LackingError as lacking:
        pytest.skip(f"{lacking}")
    for name in (FIRMWARE_LOG, VARIABLES):
        (tmp_path / name).write_bytes(b"of another")
        os.chown(tmp_path / name, 60999, 60999)
    async with launched(boot=replace(boot, firmware=firmware), rundir=tmp_path) as machine:
        assert (await machine.qmp.execute("query-status"))["status"] == "prelaunch"
    assert (tmp_path / FIRMWARE_LOG).read_bytes() == b""


async def test_a_refusal_is_told_in_qemus_words_and_cited(launched: LaunchMachine) -> None:
    async with launched() as machine:
        with pytest.raises(RefusedError, match="Device 'nobody' not found") as caught:
            await machine.qmp.execute("device_del", {"id": "nobody"})
        assert json.loads(cited(machine, caught.value.evidence))["error"]["desc"] == "Device 'nobody' not found"


async def test_no_event_is_lost_between_the_command_and_the_wait(launched: LaunchMachine) -> None:
    async with launched() as machine:
        with machine.qmp.listen("RESUME") as resumed, machine.qmp.listen("RESUME", nobody=1) as other:
            await machine.qmp.execute("cont")
            event = await resumed.wait()
            assert resumed.event is event
            assert json.loads(cited(machine, event.evidence))["event"]["event"] == "RESUME"
            assert other.event is None
        assert [seen.name for seen in machine.qmp.events] == ["RESUME"]


async def test_a_binary_without_seccomp_is_started_without_it(
    launched: LaunchMachine, qemu: Qemu, tmp_path: Path
) -> None:
    script = tmp_path / "qemu-without-seccomp"
    refusal = "case \" $* \" in *' -sandbox '*) echo 'no seccomp' >&2; exit 1;; esac"
    script.write_text(f'#!/bin/sh\n{refusal}\nexec {qemu.path} "$@"\n')
    script.chmod(0o755)
    async with launched(qemu=find_qemu(str(script))) as machine:
        assert "-sandbox" not in machine.argv
        assert await machine.qmp.execute("query-status")
    async with launched() as machine:
        assert ("-sandbox" in machine.argv) is qemu.sandbox


# ---- gone ----


async def test_qemu_is_gone_after_the_body(launched: LaunchMachine, tmp_path: Path) -> None:
    async with launched():
        pass
    assert processes_naming(tmp_path) == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("error", [RuntimeError("body"), KeyboardInterrupt("body"), asyncio.CancelledError("body")])
async def test_qemu_is_gone_when_the_body_raises(launched: LaunchMachine, tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error), match="body"):
        async with launched():
            raise error
    assert processes_naming(tmp_path) == []


@pytest.mark.parametrize("part", range(8))
async def test_cancelling_half_way_through_entering_leaves_nothing(
    launched: LaunchMachine, tmp_path: Path, part: int
) -> None:
    started = time.monotonic()
    async with launched():
        whole = time.monotonic() - started

    async def enter() -> None:
        async with launched(host=local):
            await asyncio.Event().wait()

    for step in range(3):
        async with LocalHost() as local:
            entering = asyncio.create_task(enter())
            await asyncio.sleep(whole * (3 * part + step) / 20)
            entering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await entering
            assert processes_naming(tmp_path) == []
            assert asyncio.all_tasks() == {asyncio.current_task()}
            listener = await local.listen("probe")
            await listener.close()
            assert list(Path(listener.address).parent.glob("[0-9]*")) == []


@pytest.mark.parametrize("turns", range(0, 30, 3))
async def test_cancelling_after_any_number_of_turns_leaves_nothing(
    launched: LaunchMachine, tmp_path: Path, turns: int
) -> None:
    async def enter() -> None:
        async with launched():
            await asyncio.Event().wait()

    entering = asyncio.create_task(enter())
    for _ in range(turns):
        await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    assert processes_naming(tmp_path) == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


# ---- refused ----


async def refusal(launched: LaunchMachine, tmp_path: Path, spec: MachineSpec | None = None, **given: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        async with launched(spec, **given):
            pass
    assert processes_naming(tmp_path) == []
    return caught.value


async def test_a_property_value_qemu_refuses_is_told_in_its_words(launched: LaunchMachine, tmp_path: Path) -> None:
    error = await refusal(launched, tmp_path, small(port_properties={"chassis": 300}))
    assert error.message.startswith("QEMU refused to start (exit status 1): ")
    assert "expects uint8_t" in error.message
    assert str(tmp_path / "run" / "argv.json") in (error.hint or "")


async def test_an_unknown_property_is_refused_before_qemu_starts(launched: LaunchMachine, tmp_path: Path) -> None:
    error = await refusal(launched, tmp_path, small(port_properties={"chasis": 3}))
    assert "property 'chasis' does not exist" in error.message
    assert not (tmp_path / "run" / "argv.json").exists()


async def test_an_unknown_cpu_is_told_in_qemus_words(launched: LaunchMachine, tmp_path: Path) -> None:
    assert "unable to find CPU model 'z80'" in (await refusal(launched, tmp_path, small(cpu="z80"))).message


async def test_a_kernel_that_is_not_there_is_told_in_qemus_words(
    launched: LaunchMachine, tmp_path: Path, boot: Boot
) -> None:
    assert boot.kernel
    Path(boot.kernel).unlink()
    assert "could not open kernel file" in (await refusal(launched, tmp_path)).message


async def test_a_kernel_that_is_none_is_told_in_qemus_words(
    launched: LaunchMachine, tmp_path: Path, boot: Boot
) -> None:
    assert boot.kernel
    Path(boot.kernel).write_text("words")
    error = await refusal(launched, tmp_path)
    assert "QEMU refused to start (exit status 1): qemu" in error.message


async def test_a_disk_that_is_not_there_is_named(launched: LaunchMachine, tmp_path: Path) -> None:
    error = await refusal(launched, tmp_path, with_disk(tmp_path / "none.raw"))
    assert error.message == f"disk disk1: {tmp_path / 'none.raw'}: no such file"


async def test_two_machines_on_one_disk_are_told_who_is_in_the_way(launched: LaunchMachine, tmp_path: Path) -> None:
    disk = tmp_path / "shared.raw"
    disk.write_bytes(b"\0" * 4096)
    second = tmp_path / "second"
    async with launched(with_disk(disk)) as machine:
        with pytest.raises(InputError, match='Failed to get "write" lock') as caught:
            async with launched(with_disk(disk), rundir=second):
                pass
        assert processes_naming(second) == []
        assert await machine.qmp.execute("query-status")
    assert "another QEMU holds this image" in (caught.value.hint or "")


def qemu_that_ends(folder: Path, qemu: Qemu, how: str) -> Qemu:
    """Return a QEMU that answers what it is asked about itself, and ends like this when it is to run a machine."""
    script = folder / "qemu-that-ends"
    script.write_text(f'#!/bin/sh\ncase "$*" in *"-M none"*|*-version*) exec {qemu.path} "$@";; esac\n{how}\n')
    script.chmod(0o755)
    return find_qemu(str(script))


async def test_a_program_that_ends_without_a_word_is_told(launched: LaunchMachine, qemu: Qemu, tmp_path: Path) -> None:
    error = await refusal(launched, tmp_path, qemu=qemu_that_ends(tmp_path, qemu, "exit 7"))
    assert error.message == "QEMU refused to start (exit status 7): it printed nothing"


async def test_a_program_that_is_killed_as_it_starts_is_lost_and_no_wrong_input(
    launched: LaunchMachine, qemu: Qemu, tmp_path: Path
) -> None:
    with pytest.raises(QemuLostError, match=r"killed from outside as it started \(SIGKILL\)"):
        async with launched(None, qemu=qemu_that_ends(tmp_path, qemu, "kill -9 $$")):
            pass
    assert processes_naming(tmp_path) == []


# ---- dying ----


async def event(machine: Machine) -> Any:
    with machine.qmp.listen("DEVICE_DELETED") as deleted:
        return await deleted.wait()


WAITS: dict[str, Callable[[Machine], Awaitable[Any]]] = {
    "event": event,
    "console": lambda machine: machine.console.expect("never"),
    "command": lambda machine: machine.qmp.execute("query-status"),
}


DEATHS = [
    (signal.SIGKILL, QemuLostError, "SIGKILL"),
    (signal.SIGABRT, QemuCrashedError, "SIGABRT"),
    (signal.SIGSEGV, QemuCrashedError, "SIGSEGV"),
    (signal.SIGRTMIN + 6, QemuLostError, f"signal {signal.SIGRTMIN + 6}"),
]


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize(("number", "kind", "words"), DEATHS, ids=[row[2] for row in DEATHS])
async def test_qemus_death_ends_a_pending_wait_as_what_it_was(
    launched: LaunchMachine, wait: str, number: int, kind: type[BedError], words: str
) -> None:
    async with launched() as machine:
        # stopped, so that a command stays unanswered until the signal comes
        os.kill(machine.process.pid, signal.SIGSTOP)
        waiting = asyncio.ensure_future(WAITS[wait](machine))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        os.kill(machine.process.pid, number)
        with contextlib.suppress(ProcessLookupError):  # SIGKILL ends the stopped too
            os.kill(machine.process.pid, signal.SIGCONT)
        with pytest.raises(kind, match=words):
            async with asyncio.timeout(10):
                await waiting
        with pytest.raises(kind, match=words):
            await machine.console.expect("never, either")
        with pytest.raises(kind, match=words):
            await machine.qmp.execute("query-status")


async def test_a_qemu_asked_to_end_is_lost_and_no_crash(launched: LaunchMachine) -> None:
    async with launched() as machine:
        os.kill(machine.process.pid, signal.SIGTERM)
        with pytest.raises(QemuLostError, match="exit status 0"):
            await machine.console.expect("never")


async def test_several_waits_end_together(launched: LaunchMachine) -> None:
    async with launched() as machine:
        waits = [asyncio.ensure_future(make(machine)) for make in WAITS.values() for _ in range(3)]
        await asyncio.sleep(0.05)
        os.kill(machine.process.pid, signal.SIGKILL)
        ends = await asyncio.gather(*waits, return_exceptions=True)
        pending = [end for end in ends if not isinstance(end, dict)]
        assert len(pending) == 6
        assert {type(end) for end in pending} == {QemuLostError}


async def test_a_guest_that_panics_ends_the_waits_with_its_words(launched: LaunchMachine, tmp_path: Path) -> None:
    code = says("[    1.0] Kernel panic - not syncing: test\r\n")
    async with launched(boot=tiny_boot(tmp_path, code)) as machine:
        await machine.qmp.execute("cont")
        with pytest.raises(GuestCrashedError) as caught:
            await machine.console.expect("never")
        assert (caught.value.crash, caught.value.words) == (Crash.PANIC, "Kernel panic - not syncing: test")
        assert "Kernel panic" in cited(machine, caught.value.evidence)


async def test_a_tolerated_panic_leaves_the_machine_to_be_looked_at(launched: LaunchMachine, tmp_path: Path) -> None:
    code = says("Kernel panic - not syncing: test\r\nend\r\n")
    async with launched(boot=tiny_boot(tmp_path, code)) as machine:
        machine.watch.tolerate(Crash.PANIC)
        await machine.qmp.execute("cont")
        await machine.console.expect("end\r\n")
        assert [crash.crash for crash in machine.watch.crashes] == [Crash.PANIC]
        assert (await machine.qmp.execute("query-status"))["running"]


async def test_a_guest_that_resets_itself_is_seen_and_stays(launched: LaunchMachine, tmp_path: Path) -> None:
    async with launched(boot=tiny_boot(tmp_path, says("bye\r\n", then=RESET))) as machine:
        machine.watch.tolerate(Crash.RESET)
        with machine.qmp.listen("SHUTDOWN") as shutdown:
            await machine.qmp.execute("cont")
            event = await shutdown.wait()
        (crash,) = machine.watch.crashes
        assert (crash.crash, crash.evidence) == (Crash.RESET, event.evidence)
        assert (await machine.qmp.execute("query-status"))["status"] == "shutdown"


async def test_a_reset_nobody_asked_for_ends_the_waits(launched: LaunchMachine, tmp_path: Path) -> None:
    async with launched(boot=tiny_boot(tmp_path, says("bye\r\n", then=RESET))) as machine:
        await machine.qmp.execute("cont")
        with pytest.raises(GuestCrashedError, match="guest-reset"):
            await machine.console.expect("never")


async def test_a_flood_on_the_console_is_read_and_kept(launched: LaunchMachine, tmp_path: Path) -> None:
    code = says("x" * 30_000 + "\r\n" + "y" * 30_000 + "end\r\n")
    async with launched(boot=tiny_boot(tmp_path, code)) as machine:
        await machine.qmp.execute("cont")
        await machine.console.expect("end\r\n")
        assert (machine.rundir / "console.log").stat().st_size == 60_007


@contextlib.contextmanager
def _busy(cpu: int) -> Iterator[None]:
    """Have programs that never wait on a CPU."""
    command = ["taskset", "-c", str(cpu), "sh", "-c", "while :; do :; done"]
    spinning = [subprocess.Popen(command) for _ in range(3)]
    try:
        yield
    finally:
        for each in spinning:
            each.kill()
            each.wait()


async def test_what_a_busy_host_takes_from_qemu_is_counted(launched: LaunchMachine) -> None:
    async with launched() as machine:
        cpu = min(os.sched_getaffinity(0))
        os.sched_setaffinity(machine.process.pid, {cpu})
        before = machine.process.starved()
        with _busy(cpu):
            for _ in range(200):
                await machine.qmp.execute("query-status")
        await asyncio.sleep(1)
        assert machine.process.starved() > before

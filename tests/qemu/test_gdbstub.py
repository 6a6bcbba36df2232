"""QEMU's gdb stub, opened in a running machine and closed again."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from testbed.host.accel import Accel
from testbed.machine.gdb_packet import Decoder, Stop, encode, parse_stop
from testbed.machine.gdbstub import GdbStub, open_stub
from testbed.machine.launch import launch
from tests.qemu.conftest import small, tiny_boot

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.host.host import LocalHost
    from testbed.host.qemu import Qemu
    from testbed.machine.launch import Machine
    from tests.qemu.conftest import LaunchMachine

#: mov ecx, 5; a loop of inc eax; dec ecx; jnz; then it halts: at 0x100020, and the inc at 0x100025
LOOP = bytes.fromhex("b9 05 00 00 00 40 49 75 fc fa f4 eb fd")
INC = 0x100025


async def shown(stub: GdbStub, machine: Machine) -> tuple[int, int, str]:
    """Return rip and CR4 as the stub has them, and the monitor's words."""
    registers = await stub.registers(1)
    monitor = await machine.qmp.execute("human-monitor-command", {"command-line": "info registers"})
    return registers.rip, registers.values["cr4"], str(monitor)


async def test_a_breakpoint_stops_each_turn_and_registers_are_the_monitors(
    launched: LaunchMachine, tmp_path: Path
) -> None:
    async with launched(boot=tiny_boot(tmp_path, LOOP)) as machine, open_stub(machine.qmp) as stub:
        await stub.greet()
        await stub.insert(INC)
        seen = []
        for _ in range(5):
            await stub.go_on()
            assert (await stub.stopped()).signal == 5
            rip, cr4, monitor = await shown(stub, machine)
            assert rip == INC
            assert f"EIP={rip:08x}" in monitor
            assert f"CR4={cr4:08x}" in monitor
            seen.append((await stub.registers(1)).values["rax"])
            await stub.remove(INC)
            await stub.step(1)
            await stub.insert(INC)
        assert [value - seen[0] for value in seen] == [0, 1, 2, 3, 4]


async def test_a_vcpu_that_is_sent_back_executes_again(launched: LaunchMachine, tmp_path: Path) -> None:
    async with launched(boot=tiny_boot(tmp_path, LOOP)) as machine, open_stub(machine.qmp) as stub:
        await stub.greet()
        await stub.insert(INC + 1)
        await stub.go_on()
        await stub.stopped()
        first = (await stub.registers(1)).values["rax"]
        await stub.send_to(1, INC)
        await stub.go_on()
        await stub.stopped()
        assert (await stub.registers(1)).values["rax"] == first + 1


async def test_the_machine_runs_on_when_the_stub_is_closed(launched: LaunchMachine) -> None:
    async with launched() as machine:
        async with open_stub(machine.qmp) as stub:
            await stub.greet()
            await stub.go_on()
            await stub.interrupt()
            assert (await stub.stopped()).signal == 2
            await stub.detach()
        assert (await machine.qmp.execute("query-status"))["status"] == "running"


async def test_hundreds_of_stops_are_no_news_while_they_are_left_out(launched: LaunchMachine) -> None:
    async with launched() as machine:
        with machine.qmp.left_out("STOP", "RESUME"):
            await machine.qmp.execute("cont")
            await machine.qmp.execute("stop")
        assert [event.name for event in machine.qmp.events] == []
        with machine.qmp.listen("RESUME") as resumed:
            await machine.qmp.execute("cont")
            await resumed.wait()


async def test_people_get_their_stub_back(host: LocalHost, qemu: Qemu, tmp_path: Path) -> None:
    accel = Accel(name="tcg", reason="asked for")
    (tmp_path / "run").mkdir()
    async with launch(
        small(), tiny_boot(tmp_path), host=host, qemu=qemu, accel=accel, rundir=tmp_path / "run", attachable=True
    ) as machine:
        assert machine.attach
        async with open_stub(machine.qmp, machine.attach) as stub:
            await stub.greet()
            await stub.detach()
        reader, writer = await asyncio.open_unix_connection(machine.attach.gdb)
        writer.write(encode(b"?"))
        decoder = Decoder()
        stops: list[Stop] = []
        begun = time.monotonic()
        while not stops and time.monotonic() - begun < 20:
            stops = [stop for each in decoder.feed(await reader.read(4096)) if (stop := parse_stop(each))]
        assert stops
        writer.close()
        await writer.wait_closed()

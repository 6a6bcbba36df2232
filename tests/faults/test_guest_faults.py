"""Faults of a real guest: what its kernel, its init and its console do, and which verdict comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from testbed.actions.unplug import UnplugOutcome, unplug
from testbed.campaign.record.evidence import quote_evidence
from testbed.guest.deadline import deadline
from testbed.machine.gdbstub import open_stub
from testbed.model.errors import GuestCrashedError
from testbed.model.kernel_log import Crash
from testbed.model.outcome import Verdict
from tests.faults.memory_use import growth
from tests.faults.peers import peer

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.pytest_plugin import BootFactory, Judge
    from tests.qemu.conftest import LaunchMachine

SCENARIO = str(Path(__file__).with_name("still_answers.py"))
#: wall seconds in which a fault must have been judged, on a busy host too
DEADLINE = 200.0
#: KiB by which a flood may make the process of the test bed grow
GROWTH = 50 << 10

PANIC = "echo c > /proc/sysrq-trigger"
#: an instruction that does not exist, where init will go on: the last field is its program counter
KILL_INIT = r"set -- $(cat /proc/1/syscall); eval pc=\${$#}; printf '\017\013' | dd of=/proc/1/mem bs=1 seek=$((pc))"
#: take all memory, most of it at once
EAT = "pages=/proc/sys/vm/nr_hugepages; echo 1000 > $pages; echo $(( $(cat $pages) - 16 )) > $pages"
#: sched_setscheduler(0, SCHED_FIFO, &99), then a jump to itself: nobody preempts it, so no grace period of RCU ends
HOG = bytes.fromhex("b890000000 31ff be01000000 488d1504000000 0f05 ebfe 63000000")


def program(code: bytes) -> bytes:
    """Return an ELF executable for x86-64 that is this code, in one segment with its headers."""
    start, headers = 0x400000, 64 + 56
    ident = b"\x7fELF\2\1\1".ljust(16, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, 62, 1, start + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = headers + len(code)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, start, start, size, size, 0x1000) + code


def printed(data: bytes) -> str:
    """Return the shell command that prints these bytes."""
    return "printf '" + "".join(f"\\{byte:03o}" for byte in data) + "'"


STARVE = (
    "echo 3 > /sys/module/rcupdate/parameters/rcu_cpu_stall_timeout; echo -1 > /proc/sys/kernel/sched_rt_runtime_us; "
    f"{printed(program(HOG))} > /tmp/hog; chmod +x /tmp/hog; /tmp/hog"
)
UNBIND = (
    "for port in /sys/bus/pnp/drivers/serial/*:*; do "
    "[ -e $port/tty/ttyS1 ] && echo ${port##*/} > /sys/bus/pnp/drivers/serial/unbind; done"
)

CRASHES = {
    "panic": (PANIC, r"\(panic\): Kernel panic - not syncing: sysrq triggered crash"),
    "reset": ("reboot -f", r"\(reset\)"),
    "power off": ("poweroff -f", r"\(power off\)"),
    "out of memory": (
        f"echo 1 > /proc/sys/vm/panic_on_oom; {EAT}; tail /dev/zero",
        r"\(panic\): Kernel panic - not syncing: Out of memory",
    ),
    "init killed": (KILL_INIT, r"\(panic\): Kernel panic - not syncing: Attempted to kill init"),
    # a stall is told only if a grace period had begun
    "starved": (STARVE, r"\((?:rcu stall|silence)\)"),
    "channel gone": (UNBIND, r"\(silence\): no answer for 10 s"),
}
#: what the bed notices by its patience alone
SILENT = ("starved", "channel gone")


async def crashed(judged: Judge, fault: str, when: str) -> None:
    command, words = CRASHES[fault]
    async with asyncio.timeout(DEADLINE):
        outcome = await judged(SCENARIO, options={when: command, "patience": 10 if fault in SILENT else 120})
    wanted = Verdict.BAD if when == "after" else Verdict.BROKEN
    assert (outcome.verdict, outcome.outcome) == (wanted, "crashed"), outcome.reason
    assert re.search(words, outcome.reason), outcome.reason
    (finding,) = outcome.findings
    assert quote_evidence(Path(outcome.rundir), finding.evidence), finding.evidence


@pytest.mark.seconds(10)
async def test_a_panic_after_the_stimulus_is_bad(testbed_try: Judge) -> None:
    await crashed(testbed_try, "panic", "after")


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize("fault", [name for name in CRASHES if name != "panic"])
async def test_a_crash_after_the_stimulus_is_bad(testbed_try: Judge, fault: str) -> None:
    await crashed(testbed_try, fault, "after")


@pytest.mark.extended
@pytest.mark.seconds(20)
@pytest.mark.parametrize("fault", CRASHES)
async def test_a_crash_before_the_stimulus_is_broken(testbed_try: Judge, fault: str) -> None:
    await crashed(testbed_try, fault, "before")


@pytest.mark.extended
@pytest.mark.seconds(15)
async def test_a_process_that_the_oom_killer_ends_is_no_crash(testbed_try: Judge) -> None:
    outcome = await testbed_try(SCENARIO, options={"after": "tail /dev/zero", "patience": 120})
    assert (outcome.verdict, outcome.outcome) == (Verdict.GOOD, "answered"), outcome.reason
    assert "Out of memory: Killed process" in (Path(outcome.rundir) / "kernel.log").read_text()


@pytest.mark.extended
@pytest.mark.seconds(15)
async def test_a_soft_lockup_is_a_crash_in_its_words(testbed_boot: BootFactory) -> None:
    """Stop QEMU's process: the guest's time goes on meanwhile, so its watchdog finds a CPU that did nothing for 5 s."""
    async with testbed_boot() as guest:
        await guest.shell.succeed("echo 1 > /proc/sys/kernel/watchdog_thresh")
        waiting = asyncio.create_task(guest.shell.sleep(60))
        os.kill(guest.machine.process.pid, signal.SIGSTOP)
        await asyncio.sleep(5)
        os.kill(guest.machine.process.pid, signal.SIGCONT)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(GuestCrashedError, match="soft lockup") as caught:
                await waiting
        assert caught.value.crash is Crash.LOCKUP
        assert "soft lockup" in quoted(guest, caught.value.evidence)


@pytest.mark.extended
@pytest.mark.seconds(15)
async def test_an_oops_is_a_crash_in_its_words(testbed_boot: BootFactory) -> None:
    """Send a process that is in the kernel to an address where there is nothing, through QEMU's gdb stub."""
    async with testbed_boot(parameters={"cpus": 1}) as guest:
        waiting = asyncio.create_task(guest.shell.sleep(60))
        await guest.shell.start("cat /dev/zero > /dev/null")
        with contextlib.suppress(GuestCrashedError):  # the guest may have died before the stub is closed
            await jump_in_the_kernel(guest, NOWHERE)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(GuestCrashedError, match="unable to handle page fault") as caught:
                await waiting
        assert caught.value.crash is Crash.OOPS
        assert "000000000dead000" in quoted(guest, caught.value.evidence)


#: where a kernel has nothing
NOWHERE = 0xDEAD000


async def jump_in_the_kernel(guest: Guest, address: int) -> None:
    async with open_stub(guest.machine.qmp) as stub:
        stop = await stub.greet()
        while (await stub.registers(stop.thread)).cpl != 0:
            stop = await stub.step(stop.thread)
        await stub.send_to(stop.thread, address)
        await stub.detach()


def quoted(guest: Guest, evidence: str) -> str:
    (quote,) = quote_evidence(guest.machine.rundir, evidence)
    return quote.text


# ---- what it prints ----

#: bytes that are no UTF-8, a terminal's escapes, what Python takes for ends of lines, and a zero
ODD = r"\377\376\300\200\355\240\200\033[2J\033]0;owned\007\233\342\200\250\302\205\r\014\013\034\000\r\r\n"


@pytest.mark.seconds(10)
async def test_odd_bytes_of_a_console_and_a_kernel_log_shift_no_reference(testbed_boot: BootFactory) -> None:
    async with testbed_boot() as guest:
        guest.machine.watch.tolerate(Crash.PANIC)
        for place in ("/dev/kmsg", "/dev/ttyS0"):
            await guest.shell.succeed(f"printf '{ODD}' > {place}")
        await guest.shell.succeed("echo 'Kernel panic - not syncing: made up' > /dev/ttyS0; echo the last > /dev/kmsg")
        await guest.shell.catch_up()
        await guest.machine.console.expect("made up")
        (crash,) = guest.machine.watch.crashes
        assert quoted(guest, crash.evidence).endswith("not syncing: made up")
        (last,) = guest.shell.log.find("^the last$")
        assert quoted(guest, last.reference).endswith("the last")
        assert b"\xff\xfe\xc0\x80" in guest.machine.console.written()
        assert await guest.shell.succeed("echo alive") == "alive"


#: what fills a log; each open of /dev/kmsg may write ten lines in five seconds
FLOODING = {
    "console.log": f"yes {'x' * 500} > /dev/ttyS0",
    "kernel.log": f"while :; do echo {'x' * 500} > /dev/kmsg; done",
}


@pytest.mark.extended
@pytest.mark.seconds(60)
@pytest.mark.parametrize("file", FLOODING)
async def test_a_guest_that_floods_is_judged_and_fills_no_memory(testbed_boot: BootFactory, file: str) -> None:
    async with testbed_boot() as guest, growth() as grown:
        flood = await guest.shell.start(FLOODING[file])
        await guest.shell.sleep(5)
        result = await unplug(guest, "dev1")
        await guest.shell.sleep(5)
        await flood.kill()
        assert (await flood.wait()).status == -9
        assert (guest.machine.rundir / file).stat().st_size > 100_000
        assert await guest.shell.succeed("echo alive") == "alive"
    assert result.outcome is UnplugOutcome.DELETED, result.findings
    assert grown.kib < GROWTH


#: what a console that is no guest's says, in Python
FLOODS = {
    "one line of 100 MB": r"for _ in range(1600): peers[1].sendall(b'x' * 65536)",
    "10 million lines": r"for _ in range(320): peers[1].sendall(b'y\n' * 32768)",
    "ever new panics": "for n in range(40_000): peers[1].sendall(b'Kernel panic - not syncing: %d\\n' % n)",
}


@pytest.mark.extended
@pytest.mark.seconds(30)
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_console_of_a_hundred_megabytes_fills_no_memory(
    launched: LaunchMachine, tmp_path: Path, flood: str
) -> None:
    answer = 'say(b\'{"return": {}, "id": "%s"}\\r\\n\' % command[\'id\'].encode())'
    odd = peer(tmp_path, f"{answer}\n{FLOODS[flood]}\npeers[1].sendall(b'\\nthe end\\n')")
    async with launched(qemu=odd) as machine, growth() as grown:
        machine.watch.tolerate(*Crash)
        await machine.qmp.execute("query-status")
        async with asyncio.timeout(3 * DEADLINE):
            await machine.console.expect("the end")
        written = (machine.rundir / "console.log").stat().st_size
    assert written > 1_000_000
    assert grown.kib < GROWTH


# ---- its clock ----

#: guest seconds in which even a starved guest has set its clock
SPAN = 12


@pytest.mark.extended
@pytest.mark.seconds(30)
@pytest.mark.parametrize("days", [1, -1])
async def test_a_jump_of_the_guests_clock_moves_no_deadline(testbed_boot: BootFactory, days: int) -> None:
    async with testbed_boot() as guest:
        shell = guest.shell
        await shell.succeed("date -s 2026-06-01")
        began = await shell.clock()
        slept = asyncio.create_task(shell.sleep(SPAN))
        path = asyncio.create_task(shell.wait_path("/never", exists=True, seconds=SPAN))
        came = asyncio.create_task(shell.wait_until_succeeds("false", seconds=SPAN))
        passed = asyncio.create_task(lived(guest, SPAN))
        await shell.succeed(f"date -s @$(( $(date +%s) + {days * 86400} ))")
        assert await shell.clock() - began < SPAN, "the clock jumped too late"
        async with asyncio.timeout(DEADLINE):
            await slept
            assert not (await path).came
            assert SPAN <= (await path).seconds - began < 10 * SPAN
            assert not await came
            assert SPAN <= await passed < 10 * SPAN


async def lived(guest: Guest, seconds: float) -> float:
    async with deadline(guest, seconds) as limit:
        limit.go()
        await limit.passed()
        return limit.seconds - limit.started


@pytest.mark.extended
@pytest.mark.seconds(20)
async def test_an_unplug_under_a_clock_that_jumps_has_its_own_latency(testbed_boot: BootFactory) -> None:
    async with testbed_boot() as guest:
        jumps = await guest.shell.start(
            "while :; do date -s 2020-01-01; date -s 2030-01-01; sleep 0.1; done > /dev/null"
        )
        await guest.shell.sleep(1)
        result = await unplug(guest, "dev1")
        await jumps.kill()
    assert result.outcome is UnplugOutcome.DELETED, result.findings
    assert result.latency is not None
    assert 0 <= result.latency < 30

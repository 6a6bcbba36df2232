"""A device of the test bed's own whose answers are late or never come: the CPU stands still, and goes on afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from testbed.actions.attempt import trying
from testbed.actions.mmio import complete, enable, keep_to_first_cpu
from testbed.actions.register import Access, Route
from testbed.guest.pci import address_of
from testbed.machine.withholding import withholding
from testbed.model.kernel_log import Crash
from testbed.model.outcome import Verdict
from testbed.model.stall import parse_stall

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.machine.withholding import Withholder
    from testbed.model.pci import Bdf
    from testbed.pytest_plugin import BootFactory, Judge

PARAMETERS = {"cpus": 2}
NEVER = parse_stall("always")
WRITE = Access(route=Route.USER, bar=0, offset=8, width=4, value=0x1234)
READ = Access(route=Route.USER, bar=0, offset=8, width=4)


async def appeared(guest: Guest, device: Withholder) -> Bdf:
    address = await address_of(guest.machine, device.device.id)
    assert (await guest.shell.wait_path(f"{address.sysfs}/resource0", exists=True, seconds=30)).came
    await enable(guest, address)
    await keep_to_first_cpu(guest)
    return address


async def hangs(guest: Guest) -> None:
    """Ask QEMU again and again; raise TimeoutError once it has not answered for two seconds."""
    for _ in range(100):
        async with asyncio.timeout(2):
            await guest.machine.qmp.execute_unlogged("query-status", {})
        await asyncio.sleep(0.1)


@pytest.mark.seconds(40)
async def test_a_cpu_stands_in_an_access_that_is_never_answered(testbed_try: Judge) -> None:
    outcome = await testbed_try("mmio-device-answers", parameters=PARAMETERS)
    assert (outcome.verdict, outcome.outcome) == (Verdict.BAD, "blocked")
    assert outcome.modelled.startswith("the device: always")
    seen = {finding.subject: finding for finding in outcome.findings}
    assert "got 1" in seen["device (the test bed's)"].observed
    assert "CPU 1 took 0" in seen["timer interrupts meanwhile"].observed
    assert "CPU 0 took 0" not in seen["timer interrupts meanwhile"].observed
    assert seen["process after SIGKILL"].observed == "in state R"
    assert seen["QMP meanwhile"].observed == "query-status: running"
    assert "process gone" in seen["after the answer"].observed
    assert "CPU 1 took 0" not in seen["after the answer"].observed
    assert "detected stalls on CPUs" in seen["kernel log"].observed
    assert seen["kernel log"].evidence.startswith("kernel.log:")


@pytest.mark.seconds(30)
@pytest.mark.parametrize("access", ["user", pytest.param("kernel", marks=pytest.mark.extended)])
async def test_an_answer_two_seconds_late_is_only_slow(access: str, testbed_try: Judge) -> None:
    options = {"stall": "for:2", "direction": "read", "access": access}
    outcome = await testbed_try("mmio-device-answers", machine="i440fx", parameters=PARAMETERS, options=options)
    assert (outcome.verdict, outcome.outcome) == (Verdict.GOOD, "completed")
    assert outcome.guest_seconds is not None
    assert outcome.guest_seconds >= 2


@pytest.mark.extended
@pytest.mark.seconds(30)
async def test_an_answer_after_the_time_of_a_lockup_is_late(testbed_try: Judge) -> None:
    outcome = await testbed_try("mmio-device-answers", parameters=PARAMETERS, options={"stall": "for:21:write"})
    assert (outcome.verdict, outcome.outcome) == (Verdict.BAD, "late")
    assert outcome.guest_seconds is not None
    assert outcome.guest_seconds >= 20
    assert "a CPU may stand still for 20" in outcome.reason


@pytest.mark.seconds(15)
async def test_one_cpu_cannot_tell_of_itself(testbed_try: Judge) -> None:
    outcome = await testbed_try("mmio-device-answers", parameters={"cpus": 1})
    assert outcome.verdict is Verdict.SKIP
    assert outcome.hint == "-p cpus=2"


@pytest.mark.seconds(30)
async def test_what_waits_is_answered_and_the_device_works_on(testbed_boot: BootFactory) -> None:
    async with testbed_boot(parameters=PARAMETERS) as guest:
        guest.machine.watch.tolerate(*Crash)
        async with withholding(guest.machine, guest.machine.spec.slots[0]) as device:
            address = await appeared(guest, device)
            device.withhold(parse_stall("after:1:write"))
            await complete(guest, address, WRITE)
            async with trying(guest, address, WRITE) as attempt:
                await attempt.start(cpu=1)
                assert not await attempt.watch(1)
                assert device.waiting == 1
                assert len(device.records) == 2
                device.release()
                assert await attempt.watch(20)
            assert device.waiting == 0
            read, _ = await complete(guest, address, READ)
            assert read.last == WRITE.value
            await guest.shell.succeed(f"lspci -s {address} -n | grep 1b36:0005")


@pytest.mark.extended
@pytest.mark.seconds(30)
async def test_a_machine_with_a_waiting_cpu_ends_at_once(testbed_boot: BootFactory) -> None:
    async with contextlib.AsyncExitStack() as stack:
        guest = await stack.enter_async_context(testbed_boot(parameters=PARAMETERS))
        device = await stack.enter_async_context(withholding(guest.machine, guest.machine.spec.slots[0]))
        attempt = await stack.enter_async_context(trying(guest, await appeared(guest, device), WRITE))
        device.withhold(NEVER)
        await attempt.start(cpu=1)
        assert not await attempt.watch(0.5)
        assert device.waiting == 1
        process = guest.machine.process
        async with asyncio.timeout(5):
            await stack.aclose()
    assert await process.wait() == -9


@pytest.mark.seconds(30)
async def test_a_machine_whose_qemu_hangs_ends_too(testbed_boot: BootFactory) -> None:
    """Two accesses at once lock QEMU's proxy and its main loop against each other."""
    async with contextlib.AsyncExitStack() as stack:
        guest = await stack.enter_async_context(testbed_boot(parameters=PARAMETERS))
        device = await stack.enter_async_context(withholding(guest.machine, guest.machine.spec.slots[0]))
        address = await appeared(guest, device)
        attempt = await stack.enter_async_context(trying(guest, address, WRITE))
        device.withhold(NEVER)
        await attempt.start(cpu=1)
        assert not await attempt.watch(0.5)
        await guest.shell.start(f"exec taskset 1 cat {address.sysfs}/config")
        with pytest.raises(TimeoutError):
            await hangs(guest)
        process = guest.machine.process
        async with asyncio.timeout(8):
            await stack.aclose()
    assert await process.wait() == -9

"""Device registers, accessed by a process and by the kernel; what QEMU saw of it; and accesses that are held."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from testbed.actions.attempt import trying
from testbed.actions.mmio import complete, enable, probe
from testbed.actions.mmio_survey import survey
from testbed.actions.probe_result import Timing
from testbed.actions.register import Access, Route
from testbed.campaign.case import load_case
from testbed.guest.bars import read_owner
from testbed.guest.pci import address_of
from testbed.guest.task import find_task
from testbed.machine.stall import stalling
from testbed.machine.stall_place import Place
from testbed.model.errors import InputError
from testbed.model.mmio_record import Space
from testbed.model.outcome import Verdict
from testbed.model.stall import Stall, parse_stall

if TYPE_CHECKING:
    from testbed.guest.guest import Guest
    from testbed.model.outcome import Cell
    from testbed.model.pci import Bdf
    from testbed.pytest_plugin import BootFactory, Judge

pytestmark = [
    pytest.mark.testbed("q35", parameters={"devices": ["virtio-net-transitional"], "cpu": "EPYC"}),
    pytest.mark.seconds(15),
    pytest.mark.xdist_group("mmio"),
]

#: virtio's common configuration: num_queues and device_status (virtio 1.2, 4.1.4.3)
QUEUES = Access(route=Route.USER, bar=4, offset=0x12, width=2)
STATUS = Access(route=Route.USER, bar=4, offset=0x14, width=1)
STATUS_WRITE = Access(route=Route.USER, bar=4, offset=0x14, width=1, value=0)
#: legacy virtio's device features, at a port
FEATURES = Access(route=Route.PIO, bar=0, offset=0, width=4)
#: virtio-net with one pair of queues and a control queue
COUNT = 3
ERRATUM = parse_stall("smap-erratum")


async def device(guest: Guest) -> Bdf:
    address = await address_of(guest.machine, "dev1")
    await enable(guest, address)
    return address


def by(route: Route, access: Access = QUEUES) -> Access:
    return Access(route=route, bar=access.bar, offset=access.offset, width=access.width, value=access.value)


@pytest.mark.parametrize("route", [Route.USER, Route.KERNEL])
async def test_process_and_kernel_read_the_same_and_qemu_sees_it(route: Route, testbed_guest: Guest) -> None:
    probed = await probe(testbed_guest, await device(testbed_guest), by(route))
    assert probed.timing is not None
    assert (probed.timing.first, probed.timing.count) == (COUNT, 1)
    (record,) = probed.seen
    assert (record.gpa, record.width, record.value, record.vcpu) == (probed.register.gpa, 2, COUNT, 0)
    assert "virtio-pci-common" in record.region


async def test_the_kernel_splits_eight_bytes(testbed_guest: Guest) -> None:
    wide = Access(route=Route.KERNEL, bar=4, offset=0x10, width=8)
    probed = await probe(testbed_guest, await device(testbed_guest), wide)
    assert [record.width for record in probed.seen] == [4, 4]


async def test_a_write_arrives_in_its_width_with_its_value(testbed_guest: Guest) -> None:
    acknowledge = Access(route=Route.USER, bar=4, offset=0x14, width=1, value=1)
    probed = await probe(testbed_guest, await device(testbed_guest), acknowledge)
    assert [str(record) for record in probed.seen] == [
        f"kvm_mmio: mmio write len 1 gpa {probed.register.gpa:#x} val 0x1"
    ]
    timing, _ = await complete(testbed_guest, await device(testbed_guest), STATUS)
    assert timing.last == 1
    await complete(testbed_guest, await device(testbed_guest), STATUS_WRITE)


async def test_ports_by_process_and_kernel_and_configuration_space(testbed_guest: Guest) -> None:
    address = await device(testbed_guest)
    process, kernel = [await probe(testbed_guest, address, by(route, FEATURES)) for route in (Route.PIO, Route.KERNEL)]
    assert process.timing is not None
    assert kernel.timing is not None
    assert process.timing.first == kernel.timing.first != 0
    assert [record.space for record in (*process.seen, *kernel.seen)] == [Space.PIO] * 2
    config, _ = await complete(testbed_guest, address, Access(route=Route.CONFIG, bar=None, offset=0, width=4))
    assert config.first == 0x10001AF4


async def test_many_accesses_are_timed_and_all_seen(testbed_guest: Guest) -> None:
    many = Access(route=Route.USER, bar=4, offset=0x12, width=2, count=500)
    probed = await probe(testbed_guest, await device(testbed_guest), many)
    assert probed.timing is not None
    assert len(probed.seen) == probed.timing.count == 500
    assert 0 < probed.timing.min_ns <= probed.timing.mean_ns <= probed.timing.max_ns


@pytest.mark.parametrize(
    ("access", "words"),
    [
        (Access(route=Route.USER, bar=2, offset=0, width=4), "there is no BAR 2"),
        (Access(route=Route.USER, bar=0, offset=0, width=4), "MMIO does not reach it"),
        (Access(route=Route.PIO, bar=4, offset=0, width=4), "in and out do not reach it"),
        (Access(route=Route.USER, bar=4, offset=0x4000, width=4), "offset 0x4000 is outside"),
        (Access(route=Route.DEVMEM, bar=4, offset=0x12, width=2), "only below the end of memory"),
    ],
)
async def test_what_this_device_has_not_is_refused(access: Access, words: str, testbed_guest: Guest) -> None:
    with pytest.raises(InputError) as caught:
        await probe(testbed_guest, await device(testbed_guest), access)
    assert words in caught.value.message
    assert caught.value.hint


async def test_a_bar_that_a_driver_uses_is_refused(testbed_guest: Guest) -> None:
    address = await device(testbed_guest)
    await testbed_guest.load_modules("virtio_pci")
    try:
        with pytest.raises(InputError, match="in use by a driver"):
            await probe(testbed_guest, address, QUEUES)
    finally:
        await testbed_guest.act("rmmod virtio_pci")
    owner = await read_owner(testbed_guest, address)
    assert owner is not None
    assert owner.driver == ""


async def test_a_held_process_spins_while_everything_else_works(testbed_guest: Guest) -> None:
    guest, address = testbed_guest, await device(testbed_guest)
    async with trying(guest, address, STATUS_WRITE, stall=ERRATUM) as attempt:
        await attempt.start()
        assert not await attempt.watch(0.5)
        assert attempt.records == ()
        assert await guest.shell.succeed("echo other processes work") == "other processes work"
        before, after = await guest.shell.clock(), await guest.shell.clock()
        assert after > before
        assert (await guest.machine.qmp.execute("query-status"))["status"] in ("running", "debug")
        task = await find_task(guest, "mmio-probe")
        assert task is not None
        by_kernel, _ = await complete(guest, address, by(Route.KERNEL, STATUS_WRITE))
        assert by_kernel.count == len(attempt.records) == 1
        probed = await attempt.end()
    assert not probed.completed
    assert probed.loop is not None
    assert probed.loop.executions >= 2
    arrival = probed.loop.arrival
    assert (arrival.gpa, arrival.circumstances.cpl, arrival.circumstances.smap) == (probed.register.gpa, 3, True)
    assert "CPL=3" in probed.loop.monitor
    assert f"RIP={arrival.registers.rip:016x}" in probed.loop.monitor
    assert f"CR4={arrival.registers.values['cr4']:08x}" in probed.loop.monitor
    assert await find_task(guest, "mmio-probe") is None
    assert (await probe(guest, address, STATUS_WRITE)).completed


async def test_the_kernels_code_is_let_through_because_of_its_privilege(testbed_guest: Guest) -> None:
    symbols = await testbed_guest.shell.succeed("grep ' t pci_read_config$' /proc/kallsyms")
    at = int(symbols.split()[0], 16)
    address = await device(testbed_guest)
    place = Place(name="pci_read_config", address=at, pause=at)
    async with stalling(testbed_guest.machine, ERRATUM, [place]) as staller:
        config, _ = await complete(testbed_guest, address, Access(route=Route.CONFIG, bar=None, offset=0, width=4))
        assert config.first == 0x10001AF4
        record = staller.record(place)
        assert record.passage is not None
        assert (record.loop, record.passage.arrival.circumstances.cpl) == (None, 0)


@pytest.mark.parametrize("access", [by(Route.KERNEL), by(Route.KERNEL, STATUS_WRITE), FEATURES], ids=str)
async def test_the_model_stands_at_the_kernels_access_and_at_ports(access: Access, testbed_guest: Guest) -> None:
    address = await device(testbed_guest)
    passed = await probe(testbed_guest, address, access, stall=ERRATUM)
    assert passed.completed
    assert passed.passage is not None
    assert passed.passage.count == len(passed.seen) == 1
    assert passed.modelled
    held = await probe(testbed_guest, address, access, stall=parse_stall("always"), seconds=0.5)
    assert (held.completed, len(held.seen)) == (False, 0)
    assert held.loop is not None
    assert held.loop.executions >= 2
    assert (await probe(testbed_guest, address, access)).completed


@pytest.mark.parametrize(
    ("access", "stall"),
    [
        (Access(route=Route.DEVMEM, bar=4, offset=0x12, width=2), "always"),
        (Access(route=Route.CONFIG, bar=None, offset=0, width=4), "smap-erratum"),
        (Access(route=Route.KERNEL, bar=0, offset=0, width=4), "always"),
        (Access(route=Route.KERNEL, bar=4, offset=0x12, width=2), "for:1"),
    ],
    ids=str,
)
async def test_a_model_that_could_not_stand_there_is_refused(access: Access, stall: str, testbed_guest: Guest) -> None:
    with pytest.raises(InputError, match=stall):
        await probe(testbed_guest, await device(testbed_guest), access, stall=parse_stall(stall))


async def test_some_accesses_pass_before_one_is_held(testbed_guest: Guest) -> None:
    five = Access(route=Route.USER, bar=4, offset=0x12, width=2, count=5)
    probed = await probe(testbed_guest, await device(testbed_guest), five, stall=parse_stall("after:2"), seconds=3)
    assert not probed.completed
    assert len(probed.seen) == 2


async def test_a_hold_ends_after_its_time(testbed_guest: Guest) -> None:
    address = await device(testbed_guest)
    probed = await probe(testbed_guest, address, STATUS_WRITE, stall=parse_stall("for:0.3"), seconds=20)
    assert isinstance(probed.timing, Timing)
    assert probed.loop is not None
    assert probed.guest_seconds is not None
    assert probed.guest_seconds >= 0.3
    assert len(probed.seen) == 1


async def test_a_direction_that_is_not_held_passes(testbed_guest: Guest) -> None:
    probed = await probe(testbed_guest, await device(testbed_guest), STATUS_WRITE, stall=parse_stall("always:read"))
    assert probed.completed
    assert (probed.loop, probed.modelled) == (None, "")


async def test_a_survey_reads_every_bar_both_ways(testbed_guest: Guest) -> None:
    await device(testbed_guest)
    rows = [row for row in await survey(testbed_guest, count=3) if row.owner.vendor == 0x1AF4]
    kinds = {(row.bar.index, row.width) for row in rows}
    assert {(0, 1), (0, 2), (0, 4), (4, 8)} <= kinds
    assert (0, 8) not in kinds
    for row in rows:
        assert row.user.timing is not None, row.user.fault
        assert row.kernel.timing is not None, row.kernel.fault
        assert row.user.timing.count == 3


async def test_a_machine_with_a_held_process_ends_at_once(testbed_boot: BootFactory) -> None:
    parameters = {"devices": ["virtio-net-transitional"], "cpu": "EPYC"}
    async with contextlib.AsyncExitStack() as stack:
        guest = await stack.enter_async_context(testbed_boot(parameters=parameters))
        attempt = await stack.enter_async_context(trying(guest, await device(guest), STATUS_WRITE, stall=ERRATUM))
        await attempt.start()
        assert not await attempt.watch(0.2)
        pid = guest.machine.process
        async with asyncio.timeout(5):
            await stack.aclose()
    assert await pid.wait() == -9


async def test_a_stall_in_warped_time_is_skipped(testbed_try: Judge) -> None:
    parameters = {"devices": ["virtio-net"], "cpu": "EPYC"}
    outcome = await testbed_try(
        "mmio-write-completes", parameters=parameters, options={"stall": "always"}, time="warped"
    )
    assert outcome.verdict is Verdict.SKIP
    assert "warped" in outcome.reason


async def test_an_outcome_says_what_was_modelled_and_what_was_seen(testbed_try: Judge) -> None:
    parameters = {"devices": ["virtio-net"], "cpu": "EPYC"}
    outcome = await testbed_try("mmio-write-completes", parameters=parameters, options={"stall": "smap-erratum"})
    assert (outcome.verdict, outcome.outcome) == (Verdict.BAD, "stalled")
    assert outcome.modelled.startswith("smap-erratum: ")
    seen = {finding.subject: finding.observed for finding in outcome.findings}
    assert "executions in" in seen["exit loop (modelled)"]
    assert seen["vCPU at the access"].startswith("mmio at CPL 3, SMAP on, AuthenticAMD family 17h model 01h")
    assert seen["device (QEMU's trace)"] == "got 0"
    assert "the device got 1; mmio at CPL 0, SMAP on" in seen["kernel's access meanwhile"]
    assert "; pio at CPL 3, SMAP on" in seen["port access meanwhile"]
    # the state of a process that the model keeps busy is the model's doing
    assert "in state" not in seen["process"]


#: cells of the case that a model must hold, and must let through
CELLS = [cell for cell in load_case("stalled-mmio").cells if "stall" in cell.options]
HELD = [cell for cell in CELLS if cell.expected is Verdict.BAD]
LET_THROUGH = [cell for cell in CELLS if cell.expected is Verdict.GOOD]


def _some(cells: list[Cell], shown: int) -> list[object]:
    """Return cells as parameters; but for the first ones, only `make test-all` runs them."""
    return [
        pytest.param(cell, id=cell.id, marks=[] if number < shown else [pytest.mark.extended])
        for number, cell in enumerate(cells)
    ]


@pytest.mark.parametrize("cell", _some(LET_THROUGH, 1))
async def test_a_model_that_holds_everything_turns_a_control_red(
    cell: Cell, testbed_try: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stall, "holds", lambda *_, **__: True)
    outcome = await testbed_try(**cell.model_dump())
    assert outcome.modelled
    assert (outcome.verdict, outcome.outcome in ("unfinished", "kernel-stalled")) == (Verdict.BAD, True)


@pytest.mark.parametrize("cell", _some(HELD, 1))
async def test_a_model_that_holds_nothing_turns_a_failing_cell_red(
    cell: Cell, testbed_try: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stall, "holds", lambda *_, **__: False)
    outcome = await testbed_try(**cell.model_dump())
    assert (outcome.verdict, outcome.outcome) == (Verdict.GOOD, "completed")


@pytest.mark.extended
async def test_a_model_that_holds_everything_is_told_from_the_erratum(
    testbed_try: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stall, "holds", lambda *_, **__: True)
    outcome = await testbed_try(**HELD[0].model_dump())
    assert (outcome.verdict, outcome.outcome) == (Verdict.BAD, "unfinished")
    assert "the kernel's access did not complete either" in outcome.reason

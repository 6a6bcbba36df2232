"""What ends every wait of a machine at once, what does not, and that no wait leaves anything behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from testbed.machine.watch import Watch
from testbed.model.errors import BedError, BrokenError, ChannelError, GuestCrashedError, QemuLostError
from testbed.model.kernel_log import Crash

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PANIC = "Kernel panic - not syncing: test"


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    """Yield a watch, and check that its waits left no task."""
    yield Watch()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_wait_returns_what_it_waited_for(watch: Watch) -> None:
    assert await watch.during(asyncio.sleep(0, "value")) == "value"


async def test_an_error_of_the_awaited_is_raised_as_it_is(watch: Watch) -> None:
    async def fails() -> None:
        raise BrokenError("its own")

    with pytest.raises(BrokenError, match="its own"):
        await watch.during(fails())


async def test_a_fatal_error_ends_every_pending_and_every_later_wait(watch: Watch) -> None:
    waits = [asyncio.create_task(watch.during(forever())) for _ in range(5)]
    await asyncio.sleep(0)
    watch.fail(QemuLostError("gone"))
    ends = await asyncio.gather(*waits, return_exceptions=True)
    assert [str(end) for end in ends] == ["gone"] * 5
    for _ in range(2):
        with pytest.raises(QemuLostError, match="gone"):
            await watch.during(forever())


async def test_only_the_first_fatal_error_counts(watch: Watch) -> None:
    watch.fail(QemuLostError("first"))
    watch.fail(BrokenError("second"))
    with pytest.raises(BedError, match="first"):
        await watch.during(forever())


@pytest.mark.parametrize(("text", "crash"), [(PANIC, Crash.PANIC), ("Oops: 0000 [#1] SMP", Crash.OOPS)])
async def test_a_crash_ends_a_wait_with_its_words_and_its_line(watch: Watch, text: str, crash: Crash) -> None:
    waiting = asyncio.create_task(watch.during(forever()))
    await asyncio.sleep(0)
    watch.read_line(f"[   1.0] {text}", evidence="kernel.log:7")
    with pytest.raises(GuestCrashedError) as caught:
        await waiting
    assert (caught.value.crash, caught.value.words, caught.value.evidence) == (crash, text, "kernel.log:7")


async def test_a_tolerated_crash_is_noted_and_ends_nothing(watch: Watch) -> None:
    watch.tolerate(Crash.OOPS, Crash.HUNG_TASK)
    watch.read_line("Oops: 0000 [#1] SMP", evidence="kernel.log:7")
    assert await watch.during(asyncio.sleep(0, "value")) == "value"
    assert [crash.evidence for crash in watch.crashes] == ["kernel.log:7"]
    watch.read_line(PANIC, evidence="kernel.log:9")
    with pytest.raises(GuestCrashedError) as caught:
        await watch.during(forever())
    assert caught.value.crash is Crash.PANIC
    assert len(watch.crashes) == 2


async def test_a_crash_told_by_console_and_log_is_one_crash(watch: Watch) -> None:
    watch.read_line(PANIC, evidence="console.log:3")
    watch.read_line(PANIC, evidence="kernel.log:7")
    assert [crash.evidence for crash in watch.crashes] == ["console.log:3"]


async def test_the_next_guest_may_crash_in_the_same_words(watch: Watch) -> None:
    watch.tolerate(Crash.PANIC)
    watch.read_line(PANIC, evidence="console.log:3")
    watch.forget()
    assert list(watch.crashes) == []
    watch.read_line(PANIC, evidence="console.log:9")
    assert [crash.evidence for crash in watch.crashes] == ["console.log:9"]


async def test_a_flood_of_ever_new_crashes_is_bounded_and_hides_no_other_kind(watch: Watch) -> None:
    watch.tolerate(Crash.OOPS)
    for number in range(1000):
        watch.read_line(f"Oops: {number}", evidence=f"kernel.log:{number}")
    assert len(watch.crashes) == 100
    assert watch.crashes[0].evidence == "kernel.log:0"
    watch.read_line(PANIC, evidence="kernel.log:1000")
    assert watch.crashes[-1].crash is Crash.PANIC
    with pytest.raises(GuestCrashedError, match="panic"):
        await watch.during(forever())


async def test_ordinary_words_end_nothing(watch: Watch) -> None:
    watch.read_line("Linux version 6.1.0", evidence="kernel.log:1")
    assert await watch.during(asyncio.sleep(0, 1)) == 1
    assert watch.crashes == ()


async def test_the_awaited_is_cancelled_when_the_machine_ends(watch: Watch) -> None:
    cleaned = asyncio.Event()

    async def holds() -> None:
        try:
            await forever()
        finally:
            cleaned.set()

    waiting = asyncio.create_task(watch.during(holds()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    watch.fail(QemuLostError("gone"))
    with pytest.raises(QemuLostError):
        await waiting
    assert cleaned.is_set()


@pytest.mark.parametrize("turns", range(1, 6))
async def test_cancelling_a_wait_at_any_turn_leaks_no_task(watch: Watch, turns: int) -> None:
    waiting = asyncio.create_task(watch.during(forever()))
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    # the watch itself is unharmed
    assert await watch.during(asyncio.sleep(0, "value")) == "value"


async def test_a_shielded_future_outlives_the_wait_for_it(watch: Watch) -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(watch.during(asyncio.shield(future)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    future.set_result("late")
    assert await watch.during(asyncio.shield(future)) == "late"


async def test_a_lost_channel_is_told_as_qemus_end_if_that_is_what_it_was(watch: Watch) -> None:
    losing = asyncio.create_task(watch.lost(ChannelError("socket closed")))
    await asyncio.sleep(0)
    watch.fail(QemuLostError("killed"))
    with pytest.raises(QemuLostError, match="killed"):
        await losing


async def test_a_lost_channel_of_a_living_qemu_ends_every_wait(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.machine.watch._END_SECONDS", 0)
    with pytest.raises(ChannelError, match="socket closed"):
        await watch.lost(ChannelError("socket closed"))
    with pytest.raises(ChannelError, match="socket closed"):
        await watch.during(forever())


async def test_a_fatal_error_nobody_waits_for_is_no_warning() -> None:
    Watch().fail(QemuLostError("nobody waits"))

"""The guest's log of record: every reference names the line of kernel.log on which the words really stand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.guest import kernel_log
from testbed.guest.kernel_log import FILE, KernelLog
from testbed.machine.watch import Watch
from testbed.model.errors import GuestCrashedError
from testbed.model.kernel_log import Crash

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
async def watch() -> Watch:
    return Watch()


@pytest.fixture
async def log(tmp_path: Path, watch: Watch) -> KernelLog:
    return KernelLog(tmp_path, watch)


def cited(folder: Path, reference: str) -> str:
    file, _, line = reference.rpartition(":")
    return (folder / file).read_text(encoding="utf-8").split("\n")[int(line) - 1]


def record(text: str, *, seconds: float = 1.0, level: int = 6, sequence: int = 1) -> bytes:
    return f"{level},{sequence},{round(seconds * 1e6)},-;{text}\n".encode()


async def test_records_are_written_as_they_come(tmp_path: Path, log: KernelLog) -> None:
    log.feed(record("first", seconds=0.5) + record("second", seconds=1.25, level=3))
    assert (tmp_path / FILE).read_text() == "<6>[    0.500000] first\n<3>[    1.250000] second\n"
    log.close()


async def test_dictionary_lines_are_no_lines_of_the_log(tmp_path: Path, log: KernelLog) -> None:
    log.feed(record("first") + b" SUBSYSTEM=pci\n DEVICE=+pci:0000:00:02.0\n" + record("second"))
    log.close()
    assert [cited(tmp_path, each.reference)[-6:] for each in log.records] == [" first", "second"]


@pytest.mark.parametrize("escape", [r"\x0a", r"\x0d", r"\x0d\x0a", r"\x0b", r"\xe2\x80\xa8"])
async def test_a_line_break_in_a_message_moves_no_later_reference(tmp_path: Path, log: KernelLog, escape: str) -> None:
    log.feed(record(f"one{escape}two") + record("three"))
    log.close()
    assert cited(tmp_path, log.records[1].reference).endswith(" three")


@given(st.lists(st.text(max_size=20).filter(str.strip), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
async def test_every_reference_names_its_own_line(tmp_path: Path, texts: list[str]) -> None:
    log = KernelLog(tmp_path, Watch())
    for number, text in enumerate(texts):
        escaped = "".join(f"\\x{byte:02x}" for byte in text.encode())
        log.feed(record(f"{escaped} #{number}"))
    log.close()
    for number, each in enumerate(log.records):
        assert cited(tmp_path, each.reference).endswith(f" #{number}")


async def test_bytes_that_are_no_records_are_skipped(tmp_path: Path, log: KernelLog) -> None:
    log.feed(b"\xff\xfe\x00 noise\n\n" + record("words"))
    log.close()
    assert [each.text for each in log.records] == ["words"]
    assert (tmp_path / FILE).read_text().count("\n") == 1


async def test_find_goes_by_pattern_and_place(log: KernelLog) -> None:
    log.feed(
        record("pciehp: Slot(1): Link Up", seconds=1) + record("pciehp: Slot(1): Link Down", seconds=5, sequence=4)
    )
    log.feed(record("other", seconds=6))
    log.close()
    assert [each.seconds for each in log.find(r"Slot\(\d\)")] == [1.0, 5.0]
    assert [each.seconds for each in log.find("Link", after=3)] == [5.0]
    assert log.find("nothing") == []


async def test_a_crash_ends_the_waits_and_is_cited(tmp_path: Path, log: KernelLog, watch: Watch) -> None:
    log.feed(record("before") + record("Kernel panic - not syncing: test", level=0))
    log.close()
    (crash,) = watch.crashes
    assert (crash.crash, crash.words) == (Crash.PANIC, "Kernel panic - not syncing: test")
    assert cited(tmp_path, crash.evidence).endswith("Kernel panic - not syncing: test")
    with pytest.raises(GuestCrashedError):
        await watch.during(asyncio.Event().wait())


async def test_memory_is_bounded_and_references_stay_right(
    tmp_path: Path, log: KernelLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_log, "_KEPT", 100)
    for number in range(250):
        log.feed(record(f"message {number}"))
    log.close()
    assert len(log.records) == 100
    assert log.records[0].text == "message 150"
    assert cited(tmp_path, log.records[0].reference).endswith(" message 150")

"""Warm starts and warped time: the same verdicts as a fresh boot in real time, and never a wrong one."""

from __future__ import annotations

import asyncio
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from testbed.campaign.cell.start import start_key
from testbed.host.qemu import find_qemu
from testbed.host.qemu_catalog import known_qemus
from testbed.machine.snapshot import save
from testbed.machine.snapshot_store import CONSOLE, KERNEL_RECORDS, RECORD, STATE, SnapshotStore
from testbed.model.errors import ChannelError
from tests.guest.conftest import prepared

if TYPE_CHECKING:
    from pathlib import Path

    from testbed.machine.launch import Machine
    from testbed.pytest_plugin import Judge

NATIVE = {"hotplug": "native"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SnapshotStore:
    """A snapshot store of this test's own; images stay where they are."""
    monkeypatch.setenv("TESTBED_SNAPSHOTS", str(tmp_path / "snapshots"))
    return SnapshotStore()


@pytest.mark.extended
async def test_cells_that_start_alike_share_one_boot(testbed_try: Judge, store: SnapshotStore) -> None:
    tries = [testbed_try(scenario, "i440fx") for scenario in ("disk-unplug", "disk-plug", "disk-plug-after-rescan")]
    outcomes = await asyncio.gather(*tries)
    assert sorted(outcome.start for outcome in outcomes) == ["fresh", "warm", "warm"]
    assert len(store.all()) == 1


@pytest.mark.seconds(15)
async def test_a_qemu_that_maps_the_saved_memory_resumes_it_from_a_file_of_holes(
    testbed_try: Judge, store: SnapshotStore
) -> None:
    """QEMU 9.0 and later; on Debian 12 it is the one that make test fetches."""
    qemu = next((name for name in known_qemus() if "mapped-ram" in find_qemu(name).capabilities), None)
    if qemu is None:
        pytest.skip("no QEMU here has mapped-ram (it came with 9.0): testbed qemu fetch")
    fresh = await testbed_try("disk-unplug", "q35", qemu=qemu)
    (snapshot,) = store.all()
    state = (snapshot.folder / STATE).stat()
    assert state.st_size > 512 << 20, "every page of the guest has its place"
    assert state.st_blocks * 512 < state.st_size / 2, "and most were never written"
    warm = await testbed_try("disk-unplug", "q35", qemu=qemu)
    assert (fresh.start, warm.start, warm.verdict) == ("fresh", "warm", fresh.verdict)


@pytest.mark.seconds(25)
@pytest.mark.parametrize(
    "names", [(STATE, RECORD), pytest.param((KERNEL_RECORDS, CONSOLE), marks=pytest.mark.extended)]
)
async def test_a_damaged_snapshot_means_a_fresh_boot_that_says_so(
    names: tuple[str, ...], testbed_try: Judge, store: SnapshotStore, tmp_path: Path
) -> None:
    first = await testbed_try("disk-unplug", "i440fx")
    (snapshot,) = store.all()
    shutil.copytree(snapshot.folder, tmp_path / "whole")
    for name in names:
        shutil.copytree(tmp_path / "whole", snapshot.folder, dirs_exist_ok=True)
        path = snapshot.folder / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x20
        path.write_bytes(content)
        again = await testbed_try("disk-unplug", "i440fx")
        assert (again.start, again.verdict) == ("fresh", first.verdict)
        assert "booted fresh" in again.note
        assert store.all() == [], "it is taken away"


async def test_a_guest_that_cannot_be_saved_is_judged_and_says_so(
    testbed_try: Judge, store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(machine: Machine, path: Path) -> None:
        raise ChannelError(f"no room for {path.name} of {machine.spec.machine_type}")

    monkeypatch.setattr("testbed.guest.warm.save", fail)
    outcome = await testbed_try("disk-unplug", "i440fx")
    assert (outcome.start, outcome.verdict) == ("fresh", "good")
    assert "saving the guest: no room for state" in outcome.note
    assert store.all() == []


async def test_a_scenario_about_the_boot_is_never_warm(testbed_try: Judge, store: SnapshotStore) -> None:
    assert (await testbed_try("disk-present", "i440fx")).start == "fresh"
    assert store.all() == []
    assert start_key(prepared("disk-present", machine="i440fx")) is None


@pytest.mark.seconds(30)
async def test_a_guest_that_never_idles_is_run_again_in_real_time(
    testbed_try: Judge, store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []

    async def fail_once(machine: Machine, path: Path) -> None:
        tried.append(path)
        if len(tried) == 1:
            raise ChannelError("no room")
        await save(machine, path)

    monkeypatch.setattr("testbed.guest.warm.save", fail_once)
    outcome = await testbed_try("disk-unplug", parameters=NATIVE, cmdline="idle=poll")
    assert (outcome.verdict, outcome.time) == ("good", "real")
    assert re.fullmatch("snapshot: saving the guest: no room; .*; rerun in real time", outcome.note), (
        "nothing noted is lost"
    )


def test_whatever_could_change_the_state_changes_the_key() -> None:
    base: dict[str, Any] = {"scenario": "disk-unplug", "machine": "q35"}
    variants: list[dict[str, Any]] = [
        base,
        {**base, "machine": "i440fx"},
        {**base, "cmdline": "quiet"},
        {**base, "time": "real"},
        {**base, "parameters": {"memory": 256}},
        {**base, "parameters": {"cpu": "max"}},
        {**base, "parameters": {"devices": ["virtio-blk", "e1000"]}},
        {**base, "parameters": {"type": "pc-q35-6.1"}},
    ]
    keys = {start_key(prepared(**variant)) for variant in variants}
    assert len(keys) == len(variants)
    assert None not in keys
    assert start_key(prepared(**base)) == start_key(prepared(**{**base, "scenario": "disk-plug"}))


@pytest.mark.parametrize("devices", [["virtio-blk", "nvme"], ["virtio-blk", "edu"]])
def test_a_device_that_would_lose_its_state_is_never_saved(devices: list[str]) -> None:
    assert start_key(prepared(scenario="disk-unplug", parameters={"devices": devices})) is None


@pytest.mark.extended
@pytest.mark.seconds(15)
async def test_the_devices_that_are_saved_keep_their_state(testbed_try: Judge, store: SnapshotStore) -> None:
    devices = {"devices": ["virtio-blk", "virtio-net", "e1000"], **NATIVE}
    for start in ("fresh", "warm"):
        outcome = await testbed_try("disk-unplug", parameters=devices)
        assert (outcome.start, outcome.verdict) == (start, "good")

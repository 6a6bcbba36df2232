from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.host.accel import Accel
from testbed.machine import snapshot_store
from testbed.machine.snapshot_store import RECORD, STATE, SnapshotStore, snapshot_key
from testbed.model.spec import MachineSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from testbed.host.qemu import Qemu

MIB = 1 << 20


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SnapshotStore:
    monkeypatch.setenv("TESTBED_SNAPSHOTS", str(tmp_path / "snapshots"))
    return SnapshotStore()


def _kept(store: SnapshotStore, pieces: dict[int, bytes], *, size: int, key: str = "key") -> Path:
    """Keep a state that holds `pieces` and is hole everywhere else; return its file."""
    with store.draft() as draft:
        with (draft / STATE).open("wb") as file:
            for where, piece in pieces.items():
                file.seek(where)
                file.write(piece)
            file.truncate(size)
        return store.keep(draft, key, {}).state


def test_a_sparse_state_is_checked_and_a_copy_without_holes_is_the_same(store: SnapshotStore) -> None:
    state = _kept(store, {5 * MIB + 17: b"page", 40 * MIB: b"x" * 9000}, size=64 * MIB)
    snapshot = store.find("key")
    assert snapshot is not None
    snapshot.check()
    assert state.stat().st_blocks * 512 < MIB
    state.write_bytes(state.read_bytes())
    assert state.stat().st_blocks * 512 >= 64 * MIB
    snapshot.check()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 3 * MIB - 1), flip=st.integers(1, 255))
def test_a_changed_byte_is_found_wherever_it_is(store: SnapshotStore, where: int, flip: int) -> None:
    state = _kept(store, {MIB: os.urandom(5000)}, size=3 * MIB)
    snapshot = store.find("key")
    assert snapshot is not None
    with state.open("r+b") as file:
        file.seek(where)
        old = file.read(1)[0]
        file.seek(where)
        file.write(bytes([old ^ flip]))
    with pytest.raises(ValueError, match="state is damaged"):
        snapshot.check()


def test_a_page_in_another_place_is_found(store: SnapshotStore) -> None:
    state = _kept(store, {0: b"p" * (1 << 18)}, size=2 * MIB)
    snapshot = store.find("key")
    assert snapshot is not None
    state.write_bytes(bytes(1 << 18) + b"p" * (1 << 18) + bytes(2 * MIB - (1 << 19)))
    with pytest.raises(ValueError, match="state is damaged"):
        snapshot.check()


def test_a_state_that_is_cut_off_is_found(store: SnapshotStore) -> None:
    state = _kept(store, {0: b"page"}, size=2 * MIB)
    snapshot = store.find("key")
    assert snapshot is not None
    os.truncate(state, MIB)
    with pytest.raises(ValueError, match="state is damaged"):
        snapshot.check()


def test_the_least_recently_used_make_room(store: SnapshotStore) -> None:
    store.limit = 3 * MIB
    for number, key in enumerate(("one", "two")):
        record = _kept(store, {0: os.urandom(MIB)}, size=MIB, key=key).parent / RECORD
        os.utime(record, (number, number))
    assert store.find("one") is not None  # used last now
    _kept(store, {0: os.urandom(MIB)}, size=MIB, key="three")
    assert {snapshot.key for snapshot in store.all()} == {"one", "three"}


def test_what_is_being_resumed_is_not_taken_to_make_room(store: SnapshotStore) -> None:
    store.limit = 2 * MIB
    _kept(store, {0: os.urandom(MIB)}, size=MIB, key="one")
    first = store.find("one")
    assert first is not None
    with first.pinned() as pinned:
        for key in ("two", "three"):
            _kept(store, {0: os.urandom(MIB)}, size=MIB, key=key)
        assert {snapshot.key for snapshot in store.all()} == {"one", "three"}
        assert pinned.state.read_bytes()
    _kept(store, {0: os.urandom(MIB)}, size=MIB, key="four")
    assert {snapshot.key for snapshot in store.all()} == {"four"}


def test_a_guest_saved_under_kvm_is_for_its_cpu_and_kernel(
    monkeypatch: pytest.MonkeyPatch, paper_qemu: Callable[..., Qemu]
) -> None:
    monkeypatch.setattr(snapshot_store, "program_hashes", lambda *_: [])
    spec = MachineSpec.model_validate({"machine_type": "q35"})

    def keys() -> dict[str, str | None]:
        accels = (Accel(name=name, reason="test") for name in ("kvm", "tcg"))
        return {
            accel.name: snapshot_key([], spec=spec, qemu=paper_qemu(), accel=accel, state=["i"]) for accel in accels
        }

    monkeypatch.setattr(snapshot_store, "cpu_identity", lambda: ["6.1.0", "AuthenticAMD 25"])
    here = keys()
    monkeypatch.setattr(snapshot_store, "cpu_identity", lambda: ["6.1.0", "AuthenticAMD 26"])
    there = keys()
    assert here["kvm"] != there["kvm"]
    assert here["tcg"] == there["tcg"]


@pytest.mark.parametrize(
    ("machine_type", "driver", "kept"),
    [
        ("pc-q35-2.9", "pcie-root-port", False),
        ("pc-q35-2.4", "pcie-root-port", False),
        ("pc-q35-2.10", "pcie-root-port", True),
        ("q35", "pcie-root-port", True),
        ("pc-q35-2.9", "virtio-blk-pci", True),
    ],
)
def test_ports_whose_interrupts_a_saved_state_lacks_are_not_saved(
    monkeypatch: pytest.MonkeyPatch, paper_qemu: Callable[..., Qemu], machine_type: str, driver: str, kept: bool
) -> None:
    monkeypatch.setattr(snapshot_store, "program_hashes", lambda *_: [])
    device = {"driver": driver, "id": "one", "bus": "pcie.0"}
    spec = MachineSpec.model_validate({"machine_type": machine_type, "devices": [device]})
    tcg = Accel(name="tcg", reason="test")
    assert bool(snapshot_key([], spec=spec, qemu=paper_qemu(), accel=tcg, state=["i"])) is kept

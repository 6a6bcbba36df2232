"""QEMU's trace events of device accesses, as records in the words of a kvm trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.campaign.record.timeline import Track, read_timeline
from testbed.machine.journal import Journal
from testbed.machine.mmio_trace import parse_event
from testbed.model.mmio_record import Direction, Space

if TYPE_CHECKING:
    from pathlib import Path

WRITE = (
    "memory_region_ops_write cpu 0 mr 0x55d0c8f4a2b0 addr 0xfea00014 value 0x1 size 1 "
    "name 'virtio-pci-common-virtio-net'"
)


def test_a_write_to_memory() -> None:
    record = parse_event(WRITE, seconds=1.5)
    assert record is not None
    assert str(record) == "kvm_mmio: mmio write len 1 gpa 0xfea00014 val 0x1"
    assert (record.vcpu, record.region, record.seconds) == (0, "virtio-pci-common-virtio-net", 1.5)


def test_a_port_is_told_by_its_number_and_a_stamp_is_left_out() -> None:
    line = "4711@1700000000.123456:memory_region_ops_read cpu 1 mr 0x7f0 addr 0xc012 value 0x0 size 2 name 'virtio-pci'"
    record = parse_event(line)
    assert record is not None
    assert str(record) == "kvm_pio: pio_read at 0xc012 size 2 val 0x0"
    assert record.space is Space.PIO
    assert record.seconds is None


def test_an_access_that_no_vcpu_made_has_none() -> None:
    record = parse_event(WRITE.replace("cpu 0", "cpu -1"))
    assert record is not None
    assert record.vcpu is None


@pytest.mark.parametrize(
    "line", ["", "qemu-system-x86_64: warning: x", WRITE[:60], WRITE.replace("size 1", "size one")]
)
def test_other_lines_are_none(line: str) -> None:
    assert parse_event(line) is None


@given(
    st.sampled_from(["read", "write"]),
    st.integers(-1, 255),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.sampled_from([1, 2, 4, 8]),
)
def test_every_access_comes_back(word: str, vcpu: int, address: int, value: int, size: int) -> None:
    line = f"memory_region_ops_{word} cpu {vcpu} mr 0x1 addr {address:#x} value {value:#x} size {size} name 'it's'"
    record = parse_event(line)
    assert record is not None
    assert (record.direction, record.gpa, record.value, record.width) == (Direction(word), address, value, size)
    assert record.region == "it's"


@given(st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    assert parse_event(text) is None or text.strip().startswith(("memory_region_ops", *"0123456789"))


def test_accesses_stand_in_the_timeline_with_their_line(tmp_path: Path) -> None:
    record = parse_event(WRITE)
    with Journal(tmp_path) as journal:
        journal.mmio.write("access", {"vcpu": 0, "region": "virtio-pci-common-virtio-net", "text": str(record)})
        journal.mmio.write("held", {"vcpu": 0, "text": "access at rip 0x60002040 does not complete (modelled)"})
    access, held = read_timeline(tmp_path)
    assert (access.track, access.evidence) == (Track.MMIO, "mmio.jsonl:1")
    assert access.text == f"{record} (vCPU 0, virtio-pci-common-virtio-net)"
    assert held.text == "access at rip 0x60002040 does not complete (modelled) (vCPU 0, held)"

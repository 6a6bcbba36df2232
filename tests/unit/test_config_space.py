"""Configuration spaces: the walk along their capabilities ends, and every register is read as the devices have it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from testbed.model.aer import CORRECTABLE, UNCORRECTABLE, ErrorSeverity, errors_in, read_aer
from testbed.model.ari import read_ari
from testbed.model.bar import BarFault, Space, read_bars
from testbed.model.bridge import read_bridge
from testbed.model.config_space import SIZES, ChainFaultKind, ConfigSpace
from testbed.model.express import PortType, read_express
from testbed.model.msix import read_msix
from testbed.model.pci import Bdf
from testbed.model.sriov import at_routing_id, read_sriov, routing_id_of
from tests.unit.config_bytes import EXPRESS_AT, MSIX_AT, Bytes

DATA = Path(__file__).parent.parent / "data" / "pci"
NVME = ConfigSpace((DATA / "nvme-sriov-7.2.config").read_bytes())

#: bytes in which chains are likely: small values, and the ids of capabilities
CHAINED = st.sampled_from(SIZES).flatmap(
    lambda size: st.lists(
        st.tuples(st.integers(0, size - 1), st.sampled_from([0, 0x10, 0x11, 0x40, 0x44, 0x80, 0xF8, 0xFC, 0xFF])),
        max_size=60,
    ).map(lambda writes: _written(size, writes))
)
SPACES = st.one_of(CHAINED, st.sampled_from(SIZES).flatmap(lambda size: st.binary(min_size=size, max_size=size)))


def _written(size: int, writes: list[tuple[int, int]]) -> bytes:
    data = bytearray(size)
    data[6] = 0x10
    data[0x34] = 0x40
    for at, value in writes:
        data[at] = value
    return bytes(data)


def kinds(space: ConfigSpace) -> list[ChainFaultKind]:
    return [fault.kind for fault in (*space.standard.faults, *space.extended.faults)]


@given(SPACES)
@example(b"\xff" * 4096)
@example(b"\x10" * 4096)
@example(_written(256, [(0x41, 0x40)]))
def test_no_bytes_make_a_walk_or_a_reader_raise_or_go_on_for_ever(data: bytes) -> None:
    space = ConfigSpace(data)
    for chain in (space.standard, space.extended):
        offsets = [each.offset for each in chain.capabilities]
        assert len(set(offsets)) == len(offsets)
        assert all(offset % 4 == 0 and space.holds(offset, 4) for offset in offsets)
    for read in (read_msix, read_sriov, read_ari, read_aer, read_express, read_bridge, read_bars):
        read(space)
    read_aer(space, root=True)


@pytest.mark.parametrize("size", [1, 63, 65, 255, 4095, 4097])
def test_other_sizes_are_no_configuration_space(size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size}"):
        ConfigSpace(bytes(size))


def test_a_read_past_the_end_says_so() -> None:
    space = ConfigSpace(bytes(256))
    with pytest.raises(IndexError, match="2 bytes at 0xff of 256"):
        space.u16(0xFF)


def test_the_capabilities_of_a_real_function_are_found_in_their_order() -> None:
    assert [each.id for each in NVME.standard.capabilities] == [0x11, 0x10, 0x01]
    assert [each.id for each in NVME.extended.capabilities] == [0x000E, 0x0010]
    assert kinds(NVME) == []


def test_without_the_status_bit_there_are_no_capabilities() -> None:
    space = Bytes().express().u16(0x06, 0).space()
    assert space.standard.capabilities == ()


@pytest.mark.parametrize(
    ("pointer", "kind", "left"),
    [
        (0x40, ChainFaultKind.LOOP, 2),
        (0x3C, ChainFaultKind.BELOW, 2),
        (0x83, ChainFaultKind.LOOP, 2),
        (0xC2, ChainFaultKind.MISALIGNED, 3),
        (0xC0, None, 3),
        (0xF0, ChainFaultKind.NOTHING, 2),
    ],
)
def test_a_wrong_pointer_is_named_and_the_walk_ends(pointer: int, kind: ChainFaultKind | None, left: int) -> None:
    made = Bytes().capability(0x40, 0x01).msix(vectors=1, table=0, pba=0x800)
    space = made.u8(MSIX_AT + 1, pointer).u8(0xF0, 0xFF).space()
    assert kind in kinds(space) if kind else not kinds(space)
    assert len(space.standard.capabilities) == left


@pytest.mark.parametrize(
    ("pointer", "kind"), [(0x100, ChainFaultKind.LOOP), (0x0FC, ChainFaultKind.BELOW), (0xFF0, ChainFaultKind.NOTHING)]
)
def test_a_wrong_extended_pointer_is_named_and_the_walk_ends(pointer: int, kind: ChainFaultKind) -> None:
    space = Bytes().express().aer().u32(0xFF0, 0xFFFFFFFF).u32(0x100, 0x10001 | pointer << 20).space()
    assert kinds(space) == [kind]
    assert [each.id for each in space.extended.capabilities] == [0x0001]


def test_a_capability_that_is_cut_off_is_not_read() -> None:
    space = Bytes().msix(vectors=1, table=0, pba=0x800, at=0xF4).space()
    assert read_msix(space) is not None
    # in 4096 bytes there are more after it, and they are no part of it
    assert read_msix(Bytes().msix(vectors=1, table=0, pba=0x800, at=0xF8).space()) is None


def test_msix_is_read_with_the_sizes_of_its_areas() -> None:
    msix = read_msix(NVME)
    assert msix is not None
    assert (msix.vectors, msix.enabled, msix.masked) == (13, True, False)
    assert (msix.table.bir, msix.table.start, msix.table.size) == (0, 0x2000, 13 * 16)
    assert (msix.pba.bir, msix.pba.start, msix.pba.size) == (0, 0x3000, 8)


@pytest.mark.parametrize(("vectors", "size"), [(1, 8), (64, 8), (65, 16), (2048, 256)])
def test_pending_bits_come_in_quad_words(vectors: int, size: int) -> None:
    msix = read_msix(Bytes().msix(vectors=vectors, table=0, pba=0x8003).space())
    assert msix is not None
    assert (msix.pba.size, msix.pba.bir, msix.pba.start) == (size, 3, 0x8000)


def test_sriov_is_read_as_sysfs_has_it() -> None:
    sriov = read_sriov(NVME)
    assert sriov is not None
    assert (sriov.initial_vfs, sriov.total_vfs, sriov.num_vfs) == (4, 4, 2)
    assert (sriov.offset, sriov.stride, sriov.vf_device) == (1, 1, 0x0010)
    assert (sriov.vf_enable, sriov.vf_memory, sriov.ari_hierarchy) == (True, True, True)
    assert (sriov.supported_page_sizes, sriov.page_size) == (0x553, 4096)
    (bar,) = sriov.vf_bars
    assert (bar.index, bar.address, bar.wide) == (0, 0xFE204000, True)


@pytest.mark.parametrize(
    ("pf", "offset", "stride", "n", "vf"),
    [
        ("0000:01:00.0", 1, 1, 0, "0000:01:00.1"),
        ("0000:01:00.0", 1, 1, 7, "0000:01:01.0"),
        ("0000:03:00.0", 0x80, 2, 1, "0000:03:10.2"),
        ("0000:04:00.1", 0x80, 2, 0, "0000:04:10.1"),
        ("0001:af:00.0", 0x180, 1, 0, "0001:b0:10.0"),  # on the bus after the PF's
        ("0000:01:00.0", 0x100, 1, 255, "0000:02:1f.7"),
    ],
)
def test_a_vf_has_the_address_linux_gives_it(pf: str, offset: int, stride: int, n: int, vf: str) -> None:
    sriov = read_sriov(Bytes().express().aer().sriov(vfs=8, offset=offset, stride=stride).space())
    assert sriov is not None
    assert str(sriov.vf_bdf(Bdf.parse(pf), n)) == vf


@pytest.mark.parametrize(("offset", "n"), [(0xFF01, 0), (1, -1), (1, 0x10000)])
def test_a_vf_without_an_address_is_refused(offset: int, n: int) -> None:
    sriov = read_sriov(Bytes().express().aer().sriov(vfs=8, offset=offset).space())
    assert sriov is not None
    with pytest.raises(ValueError, match=r"of 0000:01:00\.0 has no address"):
        sriov.vf_bdf(Bdf.parse("01:00.0"), n)


@given(st.integers(0, 0xFFFF))
def test_a_routing_id_and_an_address_are_the_same(routing_id: int) -> None:
    assert routing_id_of(at_routing_id(0, routing_id)) == routing_id


def test_aer_registers_are_read_with_the_roots() -> None:
    made = Bytes().express(port_type=4).aer().u32(0x104, 0x8000).u32(0x118, 15).u32(0x11C, 0x12345678)
    made.u32(0x12C, 0x7).u32(0x130, 0x24).u32(0x134, 0x01000200)
    aer = read_aer(made.space(), root=True)
    assert aer is not None
    assert aer.root is not None
    assert [error.qemu for error in errors_in(aer.status, UNCORRECTABLE)] == ["COMP_ABORT"]
    assert (aer.first_error, aer.header_log[0]) == (15, 0x12345678)
    assert (aer.root.command, aer.root.status) == (7, 0x24)
    assert (aer.root.correctable_source, aer.root.uncorrectable_source) == (0x200, 0x100)


def test_every_error_qemu_can_inject_has_one_bit_and_the_kernels_name() -> None:
    known = {error.qemu: error for error in (*UNCORRECTABLE, *CORRECTABLE) if error.qemu}
    # hw/pci/pcie_aer.c, 7.2 to 10.2
    assert set(known) == {
        *("DLP", "SDN", "POISON_TLP", "FCP", "COMP_TIME", "COMP_ABORT", "UNX_COMP", "RX_OVER", "MALF_TLP", "ECRC"),
        *("UNSUP", "ACSV", "INTN", "MCBTLP", "ATOP_EBLOCKED", "TLP_PRF_BLOCKED"),
        *("RCVR", "BAD_TLP", "BAD_DLLP", "REP_ROLL", "REP_TIMER", "ADV_NONFATAL", "INTERNAL", "HL_OVERFLOW"),
    }
    assert known["COMP_ABORT"].kernel == "CmpltAbrt"
    assert known["COMP_ABORT"].mask == 0x8000
    assert known["MALF_TLP"].severity is ErrorSeverity.FATAL
    assert known["RCVR"].severity is ErrorSeverity.CORRECTABLE


def test_a_ports_slot_and_link_are_read() -> None:
    made = Bytes().express(port_type=4).u16(EXPRESS_AT + 2, 0x0142)
    made.u32(EXPRESS_AT + 0x14, 0x0012007B).u16(EXPRESS_AT + 0x18, 0x0420).u16(EXPRESS_AT + 0x1A, 0x40)
    express = read_express(made.u16(EXPRESS_AT + 0x28, 0x20).space())
    assert express is not None
    assert express.slot is not None
    assert (express.type, express.is_root, express.leads_down) == (PortType.ROOT_PORT, True, True)
    assert (express.slot.number, express.slot.hotplug, express.slot.surprise) == (2, True, True)
    assert (express.slot.power_off, express.slot.hotplug_interrupt, express.slot.occupied) == (True, True, True)
    assert express.ari_forwarding
    assert express.link is not None
    assert (express.link.max_speed, express.link.max_width, express.link.speed) == (4, 4, 1)


def test_an_integrated_endpoint_has_no_link_and_an_endpoint_no_slot() -> None:
    integrated = read_express(Bytes().express(port_type=9).space())
    endpoint = read_express(Bytes().express().u16(EXPRESS_AT + 2, 0x0102).space())
    assert integrated is not None
    assert integrated.link is None
    assert endpoint is not None
    assert endpoint.slot is None


def test_bars_are_read_by_their_type_bits() -> None:
    made = Bytes().u32(0x10, 0xFE000004).u32(0x14, 0x1).u32(0x18, 0xC001).u32(0x20, 0xFEB00008).u32(0x24, 0xFEC00004)
    first, io, prefetchable, last = read_bars(made.space())
    assert (first.index, first.address, first.wide) == (0, 0x1FE000000, True)
    assert (io.index, io.space, io.address) == (2, Space.IO, 0xC000)
    assert (prefetchable.index, prefetchable.prefetchable, prefetchable.wide) == (4, True, False)
    assert (last.index, last.fault) == (5, BarFault.NO_UPPER_HALF)


def test_a_bridges_windows_are_those_that_are_open() -> None:
    made = Bytes().bridge(secondary=1, subordinate=3, memory=(0xFE20, 0xFE30))
    made.u16(0x1C, 0xD1C1).u16(0x30, 0).u16(0x32, 0).u16(0x24, 0x0001).u16(0x26, 0xFFF1).u32(0x28, 8).u32(0x2C, 8)
    bridge = read_bridge(made.space())
    assert bridge is not None
    assert (bridge.secondary, bridge.subordinate, bridge.forwards_errors) == (1, 3, True)
    assert [(window.start, window.end) for window in bridge.windows] == [
        (0xC000, 0xDFFF),
        (0xFE200000, 0xFE3FFFFF),
        (0x800000000, 0x8FFFFFFFF),
    ]

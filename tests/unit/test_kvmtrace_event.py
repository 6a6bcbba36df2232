"""kvm's events in the layouts that kernels and trace-cmd have given them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.kvmtrace.event import (
    Access,
    Emulated,
    Entry,
    Exit,
    PageFault,
    UserExit,
    parse_access,
    parse_emulated,
    parse_entry,
    parse_exit,
    parse_page_fault,
    parse_user_exit,
)
from testbed.kvmtrace.fault import Fault, mode_of
from testbed.model.mmio_record import Direction, MmioRecord, Mode, Space

REST = "intr_info 0x00000000 error_code 0x00000000"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reason npf rip 0x4f1184 info 10000000f fe000014", Exit(None, "npf", 0x4F1184, 0x10000000F, 0xFE000014)),
        ("reason EXIT_NPF rip 0x4f1184 info 10000000d fe000014", Exit(None, "npf", 0x4F1184, 0x10000000D, 0xFE000014)),
        ("vcpu 1 reason npf rip 0xfd11d info 100000014 fd000", Exit(1, "npf", 0xFD11D, 0x100000014, 0xFD000)),
        (
            f"vcpu 0 reason npf rip 0x4f1184 info1 0x000000010000000f info2 0x00000000fe000014 {REST}",
            Exit(0, "npf", 0x4F1184, 0x10000000F, 0xFE000014),
        ),
        (
            "vcpu 3 reason EPT_MISCONFIG rip 0xffffffff81a42401 info1 0x0000000000000000 info2 0x0000000000000000 "
            f"{REST} requests 0x0000000000000000",
            Exit(3, "EPT_MISCONFIG", 0xFFFFFFFF81A42401, 0, 0),
        ),
        ("reason EPT_VIOLATION rip 0x40359f info 582 0", Exit(None, "EPT_VIOLATION", 0x40359F, 0x582, 0)),
        ("reason apic_access rip 0xc011518c", Exit(None, "apic_access", 0xC011518C, None, None)),
        ("reason PF excp rip 0x1000 info 2 1000", Exit(None, "PF excp", 0x1000, 2, 0x1000)),
    ],
)
def test_an_exit_is_read_in_every_layout(text: str, expected: Exit) -> None:
    assert parse_exit(text) == expected


@pytest.mark.parametrize(
    "text", ["", "TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800010a0b1c4", "reason npf", "rip 0x1"]
)
def test_another_architecture_or_a_cut_line_is_no_exit(text: str) -> None:
    assert parse_exit(text) is None


def test_an_entry_may_say_where_the_guest_goes_on() -> None:
    assert parse_entry("vcpu 0") == Entry(0, None)
    assert parse_entry("vcpu 12, rip 0x4f1184") == Entry(12, 0x4F1184)
    assert parse_entry(f"vcpu 2, rip 0x4f1184 {REST}") == Entry(2, 0x4F1184)
    assert parse_entry("words") is None


@pytest.mark.parametrize(
    "text",
    [
        "address fe000014 error_code f",
        "vcpu 0 rip 0x4f1184 address 0xfe000014 error_code f",
        "vcpu 0 rip 0x4f1184 address 0x00000000fe000014 error_code 0x10000000f",
    ],
)
def test_a_page_fault_is_read_in_every_layout(text: str) -> None:
    assert parse_page_fault(text) == PageFault(0xFE000014)


@pytest.mark.parametrize(
    ("event", "text", "expected"),
    [
        (
            "kvm_mmio",
            "mmio write len 1 gpa 0xfe000014 val 0x1",
            Access(Space.MMIO, Direction.WRITE, 0xFE000014, 1, 1, done=True),
        ),
        (
            "kvm_mmio",
            "mmio unsatisfied-read len 4 gpa 0xfed000f0 val 0x0",
            Access(Space.MMIO, Direction.READ, 0xFED000F0, 4, 0, done=False),
        ),
        (
            "kvm_fast_mmio",
            "fast mmio at gpa 0xfe003000",
            Access(Space.MMIO, Direction.WRITE, 0xFE003000, None, None, done=True),
        ),
        (
            "kvm_pio",
            "pio_write at 0x3f8 size 1 count 1 val 0x34 ",
            Access(Space.PIO, Direction.WRITE, 0x3F8, 1, 0x34, done=True),
        ),
        ("kvm_pio", "pio_read at 0xc13e size 2 count 1", Access(Space.PIO, Direction.READ, 0xC13E, 2, None, done=True)),
    ],
)
def test_an_access_is_read(event: str, text: str, expected: Access) -> None:
    assert parse_access(event, text) == expected


@pytest.mark.parametrize(
    ("text", "instruction", "failed"),
    [
        ("0:ffffffff8143f0a2:8a 07 (prot64)", "8a 07", False),
        ("0:ffffffff8143f0a2:8a 07 (prot64) failed", "8a 07", True),
        ("0:ffffffff8143f0a2: ec FAIL", "ec", True),
        ("0:ffffffff8143f0a2: (prot32)", "", False),
        ("0:ffffffff8143f0a2: mov %eax,(%rdi) FAIL", "mov %eax,(%rdi)", True),
        ("0:ffffffff8143f0a2: f3 a5", "f3 a5", False),
    ],
)
def test_an_emulation_may_have_failed(text: str, instruction: str, failed: bool) -> None:
    assert parse_emulated(text) == Emulated(0xFFFFFFFF8143F0A2, instruction, failed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reason KVM_EXIT_INTERNAL_ERROR (17)", UserExit("KVM_EXIT_INTERNAL_ERROR", 17)),
        ("reason error (14)", UserExit("error", 14)),
        ("reason restart (4)", UserExit("restart", 4)),
        ("reason 0x27 (39)", UserExit("0x27", 39)),  # newer than the kernel's table of names
        ("words", None),
    ],
)
def test_an_exit_to_user_space_has_a_name_and_a_number(text: str, expected: UserExit | None) -> None:
    assert parse_user_exit(text) == expected


@given(st.text(max_size=300))
def test_no_text_makes_a_reader_raise(text: str) -> None:
    parse_exit(text)
    parse_entry(text)
    parse_page_fault(text)
    parse_emulated(text)
    parse_user_exit(text)
    for event in ("kvm_mmio", "kvm_fast_mmio", "kvm_pio"):
        access = parse_access(event, text)
        assert access is None or access.address >= 0


ADDRESS = st.integers(0, 2**64 - 1)


@given(st.integers(0, 4095), ADDRESS, ADDRESS, ADDRESS)
def test_both_layouts_say_the_same(vcpu: int, rip: int, info1: int, info2: int) -> None:
    old = parse_exit(f"vcpu {vcpu} reason npf rip {rip:#x} info {info1:x} {info2:x}")
    new = parse_exit(f"vcpu {vcpu} reason npf rip {rip:#x} info1 {info1:#018x} info2 {info2:#018x} {REST}")
    assert old == new == Exit(vcpu, "npf", rip, info1, info2)


@pytest.mark.parametrize(
    ("reason", "info", "direction", "fetch", "mmio", "bits"),
    [
        ("npf", 0x10000000F, Direction.WRITE, False, True, ("P", "W", "U", "RSVD", "GUEST_FINAL")),
        ("npf", 0x10000000D, Direction.READ, False, True, ("P", "U", "RSVD", "GUEST_FINAL")),
        ("npf", 0x100000006, Direction.WRITE, False, False, ("W", "U", "GUEST_FINAL")),
        ("npf", 0x100000014, None, True, False, ("U", "F", "GUEST_FINAL")),
        ("npf", 0x200000006, Direction.WRITE, False, False, ("W", "U", "GUEST_PAGE")),
        # SEV-SNP (AMD64 APM volume 2, 15.36.10)
        (
            "npf",
            0x1680000007,
            Direction.WRITE,
            False,
            False,
            ("P", "W", "U", "RMP", "GUEST_PAGE", "ENC", "VMPL"),
        ),
        ("npf", 0xD80000005, Direction.READ, False, False, ("P", "U", "RMP", "GUEST_FINAL", "ENC", "SIZEM")),
        ("EPT_VIOLATION", 0x582, Direction.WRITE, False, False, ("write", "GVA valid", "final")),
        ("EPT_VIOLATION", 0x181, Direction.READ, False, False, ("read", "GVA valid", "final")),
        ("EPT_VIOLATION", 0x184, None, True, False, ("fetch", "GVA valid", "final")),
        ("EPT_MISCONFIG", 0, None, False, True, ()),
        ("npf", None, None, False, False, ()),
    ],
)
def test_the_error_code_tells_read_from_write_and_mmio_from_memory(
    reason: str, info: int | None, direction: Direction | None, fetch: bool, mmio: bool, bits: tuple[str, ...]
) -> None:
    fault = Fault(line=1, seconds=None, reason=reason, rip=0, info1=info, gpa=None)
    assert (fault.direction, fault.fetch, fault.mmio, fault.bits) == (direction, fetch, mmio, bits)


def test_the_address_of_an_instruction_tells_its_mode_where_it_can() -> None:
    assert mode_of(0xFFFFFFFF8143F0A2, runs_kernel=False) is Mode.KERNEL
    assert mode_of(0x4F1184, runs_kernel=True) is Mode.USER
    assert mode_of(0x4F1184, runs_kernel=False) is None
    assert mode_of(0xFFFFFFFFFF600000, runs_kernel=True) is None
    assert mode_of(None, runs_kernel=True) is None


def test_a_record_speaks_as_kvm_does() -> None:
    record = MmioRecord(seconds=1.5, vcpu=0, rip=None, gpa=0xFE000014, width=1, value=1, direction=Direction.WRITE)
    assert str(record) == "kvm_mmio: mmio write len 1 gpa 0xfe000014 val 0x1"
    assert parse_access("kvm_mmio", str(record).removeprefix("kvm_mmio: ")) is not None
